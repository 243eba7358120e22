import json

import pytest

from ddr_tf.errors import UserError
from ddr_tf.evaluation.metric import Metric
from ddr_tf.evaluation.summary import logs_folder, metrics_table, read_metrics


@pytest.mark.parametrize("content", [[], {"psnr": 3}, {"psnr": {"value": "3"}}, {"psnr": {"value": None}}, {"x": {}}])
def test_metrics_that_are_none_are_refused(tmp_path, content):
    (tmp_path / "evaluation.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"evaluation\.json cannot be read"):
        read_metrics(tmp_path / "evaluation.json")


def test_logs_that_are_no_folder_are_named(tmp_path):
    assert logs_folder(tmp_path / "a").is_dir()
    (tmp_path / "logs").write_bytes(b"")
    with pytest.raises(UserError, match=r"logs/evaluation cannot be made"):
        logs_folder(tmp_path)


def test_tables_have_metrics_as_rows_and_runs_as_columns():
    runs = {
        "a": {"psnr": Metric(20.0, 0.25, 10.0), "psnr_with_2_frames": Metric(18.0), "parameters": Metric(1_234_567)},
        "b": {"psnr": Metric(21.5, 0.5, 12.0), "other": Metric(0.0, 0.0, 0.0, 1.0)},
    }
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in metrics_table(runs, ("p*", "other")).splitlines()
    ]
    assert rows[0] == ["metric", "a", "b", "chance", "ceiling"]
    assert rows[2:] == [
        ["psnr", "20.000 ± 0.250", "21.500 ± 0.500", "10.000 to 12.000", ""],
        ["parameters", "1,234,567", "", "", ""],
        ["other", "", "0.000 ± 0.000", "0.000", "1.000"],
    ]
    assert "psnr_with_2_frames" in metrics_table(runs)


def test_tables_say_which_bounds_may_be_compared():
    bernoulli, normal = {"psnr": Metric(20.0)}, {"psnr": Metric(20.0), "pixel_stddev": Metric(0.1)}
    assert "comparable" not in metrics_table({"a": bernoulli})
    assert "The p(x | f, z) is normal." in metrics_table({"": normal})
    assert "The p(x | f, z) of b is normal." in metrics_table({"a": bernoulli, "b": normal})
