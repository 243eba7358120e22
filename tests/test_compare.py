import pytest

from ddr_tf import compare


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere holds no finished run"),
        (["nowhere", "--seeds", "1"], "--seeds must be at least 2"),
        (["nowhere", "--num_frames", "0"], "--num_frames must be at least 1, got 0"),
        (["nowhere", "--out", "no/such/folder"], "there is no folder no/such"),
    ],
)
def test_wrong_flags_of_a_comparison_are_refused(arguments, message, capsys):
    assert compare.main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--metrics", "--figures"])
def test_metrics_are_chosen_by_either_name_of_the_flag(flag):
    assert compare.parser().parse_args(["run", flag, "swap_*"]).metrics == ["swap_*"]
