"""The tables."""

import pytest

from ddr_tf.benchmarking import report


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01234, "0.0123"), (1.5, "1.50"), (47.91, "47.9"), (526.4, "526"), (261473.2, "261,473")],
)
def test_three_digits(value, text):
    assert report._three_digits(value) == text


def test_parts_of_a_step():
    passes = dict(forward_seconds=0.001, forward_gflops=10, forward_and_backward_seconds=0.003)
    parts = {
        "decoder": passes | dict(forward_and_backward_gflops=20),
        "optimizer": {"update_seconds": 0.001},
        "input": {"seconds": 0.002},
        "step": {"seconds": 0.01},
        "rest": {"seconds": 0.006},
    }
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in report._parts_table("a", parts).splitlines()]
    assert rows[2:] == [
        ["decoder", "1.0", "10", "3.0", "20", "30%"],
        ["optimizer", "", "", "1.0", "", "10%"],
        ["input", "", "", "2.0", "", "beside it"],
        ["step", "", "", "10.0", "", "100%"],
        ["rest", "", "", "6.0", "", "60%"],
    ]


def test_a_start_that_was_not_measured():
    lines = report._start_up_lines({"a": {"first_step_seconds": 17.84}, "b": {"not_measured": "no step was done"}})
    assert lines.splitlines() == [
        "From the start of python to the end of the first step of a: 17.8 s.",
        "The start of b was not measured: no step was done",
    ]
