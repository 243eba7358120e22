from ddr_tf.tables import markdown_table


def test_names_are_aligned_left_and_numbers_right():
    rows = [["", "a", "b"], ["psnr", "20.000", "1,234"], ["x", "", "007"]]
    assert markdown_table(rows).splitlines() == [
        "|      |      a |     b |",
        "|:-----|-------:|------:|",
        "| psnr | 20.000 | 1,234 |",
        "| x    |        |   007 |",
    ]


def test_a_table_may_have_no_rows():
    assert markdown_table([["a", "b"]]).splitlines()[0].split() == ["|", "a", "|", "b", "|"]
