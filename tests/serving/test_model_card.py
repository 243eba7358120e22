"""The card, of a run with and without what it may lack."""

import os
import shutil

import pytest

from ddr_tf.errors import UserError
from ddr_tf.evaluation.metric import Metric
from ddr_tf.evaluation.settings import Settings
from ddr_tf.evaluation.summary import read_evaluation, write_evaluation
from ddr_tf.runs import load_model
from ddr_tf.serving.model_card import markdown, model_card


def test_a_run_that_was_not_evaluated(run_dir):
    card = model_card(load_model(run_dir), run_dir, "puppets", "float32")
    assert card["evaluation"] is None
    assert card["model"] | {"parameters": None} == {
        "height": 16,
        "width": 16,
        "channels": 3,
        "static_dim": 4,
        "dynamic_dim": 2,
        "parameters": None,
        "weights": "float32",
        "pixel_likelihood": "bernoulli",
        "pixel_stddev": None,
    }
    text = markdown(card)
    assert text.startswith("# puppets\n\nResearch and experiments")
    assert "`ddr_tf.evaluate` had not measured this model before the export." in text
    assert "2 steps, " in text and "of a run of" not in text
    card["training"] |= {"step": 1, "training_minutes": 2.5}
    assert "the model after 1 steps of a run of 2 steps, 2.5 minutes" in markdown(card)


def test_runs_without_a_description_of_their_data(run_dir, tmp_path):
    model = load_model(run_dir)
    for name in ("run.json", "metrics.jsonl", "config.gin"):
        shutil.copyfile(run_dir / name, tmp_path / name)
    card = model_card(model, tmp_path, "puppets", "float32")
    assert card["dataset"]["name"] == "Puppets"
    assert card["dataset"]["licence"] == "not stated"
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(UserError, match=r"evaluation\.json cannot be read"):
        model_card(model, tmp_path, "puppets", "float32")
    (tmp_path / "evaluation.json").unlink()
    (tmp_path / "config.gin").unlink()
    os.mkfifo(tmp_path / "config.gin")
    with pytest.raises(UserError, match=r"config\.gin cannot be read \(it is a FIFO"):
        model_card(model, tmp_path, "puppets", "float32")


def test_an_evaluation_of_another_model_is_not_its_own(run_dir, tmp_path):
    run = shutil.copytree(run_dir, tmp_path / "run")
    write_evaluation(run, {"swap_psnr": Metric(20.0)}, Settings())
    assert model_card(load_model(run), run, "puppets", "float32")["evaluation"]["swap_psnr"]["value"] == 20
    assert read_evaluation(run, Settings())["swap_psnr"].value == 20
    assert read_evaluation(run, Settings(num_seeds=1)) is None
    load_model(run).save(run / "model.keras")  # as training on for longer does; the time does not matter
    os.utime(run / "model.keras", (0, 0))
    assert model_card(load_model(run), run, "puppets", "float32")["evaluation"] is None
    assert read_evaluation(run, Settings()) is None
