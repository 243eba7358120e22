import os
import re
import shutil
import time

import numpy as np
import pytest

from conftest import draw_image
from conftest import frame_folders as of
from ddr_tf.data.labels import as_label
from ddr_tf.errors import UserError


def test_labels_of_sequences_and_of_frames_from_csv(folder):
    (folder / "labels.csv").write_text("\ufeffsequence,age,town\nanna,31,Ulm\nж 虫,,Bonn\n", encoding="utf-8")
    sequences = of(folder)
    np.testing.assert_array_equal(sequences.static_labels["age"], [31, np.nan, np.nan])
    assert sequences.static_labels["town"].tolist() == [1, -1, 0]
    assert sequences.label_names == {"town": ("Bonn", "Ulm")}
    (folder / "labels.csv").write_text("frame,sequence,smile\nframe 2,anna,0.5\nframe 3.png,b/deep,-1\n")
    sequences = of(folder)
    smile = sequences.frame_labels["smile"]
    assert np.isfinite(smile).sum() == 2
    assert smile[sequences.rows(0, 1)] == 0.5
    assert smile[sequences.rows(1, 2)] == -1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,age\nanna,3\n", "needs a header line with 'sequence'"),
        ("sequence\nanna\n", "the names of labels"),
        ("sequence,,age\nanna,,3\n", "the names of labels"),
        ("", "needs a header line"),
        ("sequence,age\nanna,3\nanne,4\n", r"labels.csv, line 3: there is no anne"),
        ("sequence,frame,age\nanna,frame 99,3\n", r"line 2: there is no anna/frame 99"),
        (b"sequence,age\nanna,\xff\n", "cannot be read as UTF-8"),
    ],
)
def test_labels_that_fit_nothing_are_told_with_their_line(folder, text, message):
    (folder / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message):
        of(folder)


def test_labels_of_what_is_not_used_are_passed_over_and_misspelt_ones_are_not(folder):
    shutil.copy(folder / "anna/frame 1.png", folder / "anna/frame 99.png")
    draw_image(folder / "one/frame 1.png", 7)
    (folder / "labels.csv").write_text("sequence,frame,age\nanna,frame 99,3\none,frame 1,4\nb/deep,frame 1.png,5\n")
    sequences = of(folder)
    assert np.nansum(sequences.frame_labels["age"]) == 5
    (folder / "labels.csv").write_text("sequence,age\none,3\nanne,4\n")
    with pytest.raises(UserError, match="line 3: there is no anne"):
        of(folder)


def test_a_label_is_said_in_one_place(folder):
    (folder / "labels.csv").write_text("sequence,take\nanna,3\n")
    with pytest.raises(UserError, match=r"The label 'take' is in .*labels.csv and in name_pattern"):
        of(folder, name_pattern=r".*frame (?P<take>\d+)")


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_tables_of_other_tools(folder, mark):
    rows = [
        ["frame", "sequence", "smile", "town"],
        ["frame 1.png", "anna", "0.5", "Ulm, an der Donau"],
        ["frame 2", "anna", "NA", "-"],
        ["frame 3", "anna", "nan", "Bonn"],
        ["frame 4", "anna", "", "n/a"],
        ["frame 5", "anna", "-1e-1", ""],
        ["frame 6", "anna", "inf", "NULL"],
    ]
    quoted = [[f'"{cell}"' if mark in cell else cell for cell in row] for row in rows]
    text = "\r\n".join(mark.join(row) for row in quoted)
    (folder / "labels.csv").write_text(f"\ufeff{text}\r\n\r\n", newline="")
    sequences = of(folder)
    np.testing.assert_allclose(sequences.frame_labels["smile"][:6], [0.5, np.nan, np.nan, np.nan, -0.1, np.nan])
    assert sequences.label_names == {"town": ("Bonn", "Ulm, an der Donau")}
    assert sequences.frame_labels["town"][:6].tolist() == [1, -1, 0, -1, -1, -1]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_columns_and_rows_of_excel_that_hold_nothing_are_passed_over(folder, encoding):
    text = "sequence,age,town,,\nanna,31,Ulm,,\nb/deep,3,Bonn\n,,,,\n,,\n"
    (folder / "labels.csv").write_text(text, encoding=encoding)
    sequences = of(folder)
    np.testing.assert_array_equal(sequences.static_labels["age"], [31, 3, np.nan])
    assert sequences.label_names == {"town": ("Bonn", "Ulm")}


@pytest.mark.parametrize("name", ["anna/", "./anna", "{root}/anna", r"C:\data\{root}\anna", "/data/{root}/anna/"])
def test_sequences_may_be_named_by_the_path_of_their_folder(folder, name):
    (folder / "labels.csv").write_text(f"sequence,age\n{name.format(root=folder.name)},3\n")
    assert of(folder).static_labels["age"][0] == 3


@pytest.mark.parametrize("name", ["other/anna", "/anna/x", "/data/other/anna"])
def test_the_path_of_a_folder_elsewhere_is_none_here(folder, name):
    (folder / "labels.csv").write_text(f"sequence,age\n{name},3\n")
    with pytest.raises(UserError, match="line 2: there is no "):
        of(folder)


@pytest.mark.parametrize("column", ["file", "Filename", "path", "image", "frame"])
@pytest.mark.parametrize("path", ["anna/frame 1.png", "./anna/frame 1", r"D:\{root}\anna\frame 1.png"])
def test_a_table_of_files_needs_no_sequences(folder, column, path):
    (folder / "labels.csv").write_text(f"{column},age\n{path.format(root=folder.name)},3\nanna/frame 2.png,4\n")
    sequences = of(folder)
    assert sequences.frame_labels["age"][:2].tolist() == [3, 4]
    (folder / "labels.csv").write_text(f"{column},age\nanna/frame 99.png,3\n")
    with pytest.raises(UserError, match=r"line 2: there is no anna/frame 99.png; did you mean anna/frame 9.png\?"):
        of(folder)


def test_the_index_that_pandas_writes_is_passed_over(folder):
    (folder / "labels.csv").write_text(",sequence,age\n0,anna,31\n1,b/deep ,\n")
    assert list(of(folder).static_labels) == ["age"]


def test_a_decimal_comma_goes_with_a_semicolon(folder):
    (folder / "labels.csv").write_text("sequence;age;town\nanna;31,5;Ulm\nb/deep;-,5;Bonn\n")
    np.testing.assert_array_equal(of(folder).static_labels["age"], [31.5, -0.5, np.nan])


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["31", "na", "29.5"], "1 of its 3 values are no numbers (as 'na'); if it is a quantity, leave those cells"),
        (['"31,5"', '"29,5"', '"3,0"'], "its numbers have commas (as '29,5'); write points"),
        (["31%", "29%", "30"], "its numbers have signs of percent (as '29%')"),
        (["red", "1", "blue"], None),
    ],
)
def test_words_among_numbers_are_remarked_on(folder, cells, said, capsys):
    lines = [f"anna,frame {i + 1},{cells[i % 3]}\n" for i in range(12)]
    (folder / "labels.csv").write_text("sequence,frame,age\n" + "".join(lines))
    remarks = of(folder).remarks
    assert len(remarks) == bool(said)
    if said:
        assert remarks[0].reason.startswith("the label age is of classes, since ")
        assert said in remarks[0].reason
        assert said in capsys.readouterr().out
        assert of(folder, class_labels=("age",)).remarks == ()


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([f"2024-01-{day:02}" for day in range(1, 13)], "has 12 classes, each of one value (as '2024-01-01')"),
        ([f"{years} years" for years in range(20, 32)], "has 12 classes, each of one value (as '20 years')"),
        (["-999", *map(str, range(30, 41))], "has the value -999 and no other below 0; if that stands for not known"),
        (["-5", *map(str, range(30, 41))], None),
        (["-1", "-9", *map(str, range(30, 40))], None),
        (["red", "blue"] * 6, None),
        (["3 cm", "4 cm"] * 6, "is of classes, since its numbers have units, signs or spaces (as '3 cm')"),
        (["$3", "$4"] * 6, "is of classes, since its numbers have units, signs or spaces (as '$3'); if it is"),
        (["1 500", "2 500"] * 6, "is of classes, since its numbers have units, signs or spaces (as '1 500')"),
        (["0:03", "3/4"] * 6, "is of classes, since its numbers have units, signs or spaces"),
        (["500 g", "2 kg"] * 6, "is of classes, since its numbers have units, signs or spaces (as '2 kg')"),
        (["3 years", "4 years"] * 6, "is of classes, since its numbers have units, signs or spaces (as '3 years')"),
        (["0_neutral", "1_smile"] * 6, None),
        (["1 sad", "2 angry"] * 6, None),
    ],
)
def test_values_that_were_hardly_meant_so_are_remarked_on(folder, cells, said):
    lines = [f"anna,frame {i + 1},{cell}\n" for i, cell in enumerate(cells)]
    (folder / "labels.csv").write_text("sequence,frame,what\n" + "".join(lines))
    reasons = [remark.reason for remark in of(folder).remarks]
    assert len(reasons) == bool(said)
    if said:
        assert reasons[0].startswith(f"the label what {said}")
        assert not of(folder, class_labels=("what",)).remarks


def test_words_that_differ_in_capitals_are_remarked_on(folder):
    lines = [f"anna,frame {i + 1},{('happy', 'Happy ', 'sad')[i % 3]}\n" for i in range(12)]
    (folder / "labels.csv").write_text("sequence,frame,mood\n" + "".join(lines))
    sequences = of(folder)
    assert sequences.label_names == {"mood": ("Happy", "happy", "sad")}
    assert [remark.reason for remark in sequences.remarks] == [
        "the label mood has the classes 'Happy' and 'happy', which are two"
    ]


@pytest.mark.parametrize(
    "frame",
    [r"anna\frame 1.png", " frame 1.png ", "./anna/frame 1.png", r"C:\data\anna\frame 1.png", "/x/anna/frame 1"],
)
def test_paths_as_other_tools_and_machines_write_them(folder, frame):
    (folder / "labels.csv").write_text(f"sequence,frame,age\nanna,{frame},3\n")
    assert of(folder).frame_labels["age"][0] == 3


@pytest.mark.parametrize("frame", ["/x/frame 1.png", r"C:\frame 1.png", "b/frame 1.png", "/anna/x/frame 1.png"])
def test_a_path_that_ends_otherwise_is_no_path_here(folder, frame):
    (folder / "labels.csv").write_text(f"sequence,frame,age\nanna,{frame},3\n")
    with pytest.raises(UserError, match="line 2: there is no anna"):
        of(folder)


def test_numbers_of_classes_are_classes_if_it_is_said(folder):
    lines = [f"anna,frame {i + 1},{(2, 10, 1)[i % 3]}\n" for i in range(12)]
    (folder / "labels.csv").write_text("sequence,frame,kind\n" + "".join(lines))
    sequences = of(folder)
    assert sequences.label_names == {}
    (remark,) = sequences.remarks
    assert "kind is a quantity (of the values 1, 2, 10)" in remark.reason
    assert "FrameFolders.class_labels" in remark.reason
    sequences = of(folder, class_labels=("kind",))
    assert sequences.remarks == ()
    assert sequences.label_names == {"kind": ("1", "2", "10")}
    assert sequences.frame_labels["kind"][:4].tolist() == [1, 2, 0, 1]
    with pytest.raises(UserError, match="class_labels names 'sort', which is no label; there are: kind"):
        of(folder, class_labels=("sort",))
    sequences = of(folder, name_pattern=r".*frame (?P<number>\d+)", class_labels=("number",))
    assert sequences.label_names["number"][:3] == ("1", "2", "3")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sequence,age\nanna,3\nanna,4\n", "line 3: line 2 is about the same; remove one"),
        ("sequence,age\nanna,3,4\n", "line 2: there are 3 cells, but 2 columns"),
        ("sequence,age,age\nanna,3,4\n", "needs a header line"),
        ("sequence,age\nanna," + "9" * 200_000, "cannot be read as UTF-8 CSV .*field larger"),
        ("\0\0\0", "cannot be read as UTF-8 CSV .it holds NUL"),
        ('sequence,town\nanna,"Ulm\nb/deep,Bonn\n', "cannot be read as UTF-8 CSV"),
    ],
)
def test_tables_that_contradict_themselves_are_refused(folder, text, message):
    (folder / "labels.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        of(folder)


def test_what_is_no_file_is_not_read(folder):
    os.mkfifo(folder / "labels.csv")
    with pytest.raises(UserError, match=r"labels\.csv cannot be read .*a FIFO"):
        of(folder)
    (folder / "labels.csv").unlink()
    (folder / "labels.csv").symlink_to("/dev/zero")
    with pytest.raises(UserError, match=r"labels\.csv cannot be read .*a device"):
        of(folder)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("sequence,age\nanna,31\nb/deep,?\nж 虫,33\n", r"1 of its 3 values are no numbers \(as '\?'\)"),
        ("sequence\tage\nanna\t31,5\nb/deep\t1,5\n", "its numbers have commas"),
        ("sequence;age\nanna;1.500\nb/deep;3,5\nж 虫;4\n", "its numbers have points as well as commas"),
        ("sequence,age\nanna,123456789\nb/deep,123456790\n", "float32 cannot tell its numbers apart"),
    ],
)
def test_numbers_that_are_not_clear_are_classes_with_a_remark(folder, table, reason, capsys):
    (folder / "labels.csv").write_text(table)
    sequences = of(folder)
    assert sequences.static_labels["age"].dtype == np.int32
    (remark,) = sequences.remarks
    assert re.search(reason, remark.reason)
    assert remark.reason in capsys.readouterr().out
    assert of(folder, class_labels=("age",)).remarks == ()


def test_40000_words_take_seconds():
    start = time.perf_counter()
    values, words = as_label(f"word {number}" for number in range(40_000))
    assert time.perf_counter() - start < 5
    assert (len(words), len(np.unique(values))) == (40_000, 40_000)


def people(root, names):
    for i, person in enumerate(("anna", "bob", "carl")):
        for j, name in enumerate(names):
            draw_image(root / person / name, 10 * i + j)


def table(root, text, **settings):
    (root / "labels.csv").write_text(text)
    return of(root, **settings)


def test_a_row_that_may_be_of_two_files_is_refused_and_paths_tell_them_apart(tmp_path):
    people(tmp_path, ("left/000.png", "right/000.png", "000.png", "001.png", "001.jpg"))
    pattern = {"name_pattern": "(?P<sequence>[^/]+)/.*"}
    with pytest.raises(UserError, match=r"line 2: anna/000.png may be anna/000.png and anna/left/000.png; write the"):
        table(tmp_path, "sequence,frame,smile\nanna,000.png,1\n", **pattern)
    with pytest.raises(UserError, match=r"line 2: anna/001 may be anna/001.jpg and anna/001.png; write the path"):
        table(tmp_path, "sequence,frame,smile\nanna,001,1\n", **pattern)
    rows = ["anna,anna/left/000.png,2", "anna,anna/right/000,3", "anna,001.jpg,4", "anna,001.png,5"]
    data = table(tmp_path, "\n".join(["sequence,frame,smile", *rows, ""]), **pattern)
    np.testing.assert_array_equal(data.frame_labels["smile"][:5], [np.nan, 4, 5, 2, 3])


@pytest.mark.parametrize("before", ["sep=;\n", "# my labels\n#\n", "\n \n"])
def test_what_stands_before_the_header_is_passed_over(folder, before):
    (folder / "labels.csv").write_text(f"{before}Sequence;Age\nanna;3\nanne;4\n")
    with pytest.raises(UserError, match=rf"line {before.count(chr(10)) + 3}: there is no anne; did you mean anna\?"):
        of(folder)
    data = table(folder, f"{before}Sequence;Age\nanna;3\n")
    np.testing.assert_array_equal(data.static_labels["Age"], [3, np.nan, np.nan])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sequence,,age\nanna,,3\n", "column 2 has no name, so remove it or name it"),
        ("sequence,age,\nanna,3,4\n", "line 2: there are 3 cells, but 2 columns"),
        ("sequence,age,age\nanna,3,4\n", "'age' is there twice, so rename one"),
        ("name,age\nanna,3\n", "it begins with 'name, age'"),
        ("", "it is empty"),
        ('sequence,town\nb/deep,Bonn\nanna,"Ulm\nж 虫,Bonn\n', "from line 3 on: .*a quote that is opened there"),
        ("sequence,age\nanna," + "9" * 200_000, "from line 2 on: field larger"),
        ("sequence,frame,age\nanna,FRAME 01.png,3\n", r"there is no anna/FRAME 01.png; did you mean frame 1.png\?"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(folder, text, message):
    with pytest.raises(UserError, match=message):
        table(folder, text)


def test_names_count_in_any_form_of_unicode(tmp_path):
    people(tmp_path, ("a.png", "b.png"))
    (tmp_path / "anna").rename(tmp_path / "Zoe\u0308")
    data = table(tmp_path, "sequence,age\nZo\u00eb,3\n")
    assert data.static_labels["age"][0] == 3
    assert of(tmp_path, held_out="Zo\u00eb").splits["held_out"].tolist() == [0]


def test_labels_of_nothing_thousands_and_names_of_metrics_are_remarked_on(folder):
    def reasons(text):
        return [remark.reason for remark in table(folder, text).remarks]

    assert reasons("sequence,age\n") == ["the label age has no value that is known"]
    (said,) = reasons("sequence;income\nanna;1,500\nb/deep;31,000\n")
    assert "has numbers like 1,500, read as 1.500; if those are thousands" in said
    assert reasons("sequence;income\nanna;0,500\nb/deep;31,000\n") == []
    (said,) = reasons("sequence;income\nanna;1.500\nb/deep;31.000\n")
    assert "has numbers like 1.500, read as 1.500; if those are thousands, write them without a point" in said
    assert reasons("sequence;income\nanna;1.500\nb/deep;31.25\n") == []
    (said,) = reasons("sequence,identity\nanna,x\n")
    assert "the label identity is called label_identity in the names of metrics" in said


def test_no_and_yes_as_numbers_are_taken_for_two_classes_if_it_is_said(tmp_path):
    for i in range(4):
        draw_image(tmp_path / f"s{i}/a.png", 2 * i), draw_image(tmp_path / f"s{i}/b.png", 2 * i + 1)
    text = "sequence,male\ns0,-1\ns1,1\ns2,-1\ns3,1\n"
    (said,) = [remark.reason for remark in table(tmp_path, text).remarks if "male" in remark.reason]
    assert "a quantity (of the values -1, 1); if these are classes" in said
    assert not [remark for remark in table(tmp_path, text, class_labels="male").remarks if "male" in remark.reason]


@pytest.mark.parametrize("index", ["Unnamed: 0", "Unnamed: 0.1"])
def test_an_index_that_pandas_has_read_and_written_is_no_label(folder, index):
    data = table(folder, f"{index},sequence,age\n0,anna,3\n1,b/deep,4\n")
    assert list(data.static_labels) == ["age"]


def test_whole_paths_of_flat_folders_count_by_their_names(tmp_path):
    for i, person in enumerate(("anna", "bob")):
        for j, face in enumerate(("smile", "scream")):
            draw_image(tmp_path / f"{person}_{face}.png", 10 * i + j)
    text = "path,x\n/data/other/anna_smile.png,1\n"
    data = table(tmp_path, text, name_pattern="(?P<sequence>[a-z]+)_.*")
    assert np.nansum(data.frame_labels["x"]) == 1


@pytest.mark.parametrize("path", ["/data/other/anna/frame 1.png", "D:\\faces\\anna\\frame 1.png"])
def test_whole_paths_of_another_machine_count_by_their_last_folders(folder, path):
    data = table(folder, f"path,x\n{path},1\n")
    assert data.frame_labels["x"][0] == 1 and np.isnan(data.frame_labels["x"][1:]).all()
    with pytest.raises(UserError, match=r"line 2: there is no other/anna/frame 1.png"):
        table(folder, "path,x\nother/anna/frame 1.png,1\n")


def test_a_table_cannot_make_sequences_which_is_said(tmp_path):
    for i in range(4):
        draw_image(tmp_path / f"{i}.png", i)
    with pytest.raises(UserError, match=r"no 2880/0.png; sequences are folders, or what .*name_pattern says"):
        table(tmp_path, "sequence,file,smile\n2880,0.png,1\n")


@pytest.mark.parametrize("column", ["filename", "image", "Path", "file"])
def test_a_column_of_files_beside_the_sequence_names_frames(folder, column):
    (folder / "labels.csv").write_text(f"sequence,{column},smile\nanna,frame 2.png,1\nb/deep,frame 3.png,0.5\n")
    sequences = of(folder)
    assert list(sequences.frame_labels) == ["smile"]
    assert sequences.frame_labels["smile"][sequences.rows(0, 1)] == 1
    assert sequences.frame_labels["smile"][sequences.rows(1, 2)] == 0.5
    assert not sequences.static_labels


def test_a_column_of_that_name_may_be_a_label_of_sequences(folder):
    (folder / "labels.csv").write_text("sequence,image,age\nanna,portraits/1.png,31\nb/deep,portraits/2.png,40\n")
    assert list(of(folder).static_labels) == ["image", "age"]


@pytest.mark.parametrize("row", ["anna,frame 2.jpg", "anna,anna/frame 2.webp"])
def test_names_of_images_that_were_written_as_another_type_since(folder, row):
    (folder / "labels.csv").write_text(f"sequence,frame,smile\n{row},1\n")
    sequences = of(folder)
    assert sequences.frame_labels["smile"][sequences.rows(0, 1)] == 1
    (folder / "labels.csv").write_text(f"file,smile\nanna/{row.rpartition('/')[2].removeprefix('anna,')},1\n")
    sequences = of(folder)
    assert sequences.frame_labels["smile"][sequences.rows(0, 1)] == 1
