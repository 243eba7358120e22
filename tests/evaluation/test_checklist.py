import numpy as np
import pytest

from conftest import RandomDataset
from ddr_tf.evaluation.checklist import CHECKS, conspicuous
from ddr_tf.evaluation.metric import Metric

GOOD = {
    "kl_dynamic_nats_per_frame": 8.0,
    "active_units_dynamic": 2,
    "active_units_static": 20,
    "static_retrieval_accuracy": 0.9,
    "leakage_dynamic_to_hair": 0.05,
    "leakage_static_to_pose": 0.1,
    "reconstruction_psnr": 28.0,
    "with z of another frame": 20.0,
    "reconstruction_ssim": 0.95,
    "swap_psnr": 27.8,
    "swap_conditioned_psnr": 27.9,
    "swap_neighbours_psnr": 27.7,
    "prior_pose_coverage": 0.9,
}
BAD = {
    "collapse of z": {"kl_dynamic_nats_per_frame": 0.1},
    "z changes nothing": {"with z of another frame": 27.95},
    "collapse of f": {"active_units_static": 0},
    "z tells who it is": {"leakage_dynamic_to_hair": 0.6},
    "f tells the pose": {"leakage_static_to_pose": 0.6},
    "poses not shared": {"swap_psnr": 24.0},
    "f of clips": {"swap_neighbours_psnr": 26.0},
    "holes in the prior": {"prior_pose_coverage": 0.5},
    "blur": {"reconstruction_ssim": 0.5},
}


def many():
    return RandomDataset(frame_counts=(2,) * 300, held_out=30)


def remarks(values, sequences=None, log=()):
    chance = {"reconstruction_psnr": values.get("with z of another frame")}
    metrics = {name: Metric(float(value), chance=chance.get(name), ceiling=1.0) for name, value in values.items()}
    return conspicuous(metrics, sequences or many(), log)


def held_out(*elbos):
    return [{"split": "held_out", "step": 100 * (place + 1), "elbo": elbo} for place, elbo in enumerate(elbos)]


def test_a_good_run_is_not_conspicuous():
    assert remarks(GOOD, log=held_out(-9.0, -8.0, -7.0)) == []


@pytest.mark.parametrize("name", BAD)
def test_each_fault_is_seen_alone_with_what_to_change(name):
    (remark,) = remarks(GOOD | BAD[name])
    assert remark.startswith(f"{name}: ")
    assert remark.endswith(".")


def test_overfitting_and_few_sequences():
    (overfitting,) = remarks(GOOD, log=held_out(-9.0, -7.0, -8.0, -9.0))
    assert "best at step 200 of 400" in overfitting
    few = remarks(GOOD, RandomDataset())
    assert [remark.split(":")[0] for remark in few] == ["too few identities", "few held-out sequences"]
    assert {*BAD, "overfitting", "too few identities", "few held-out sequences"} == {check.name for check in CHECKS}


def test_what_was_not_measured_is_not_judged():
    assert remarks({}) == []
    assert np.all([check.advice for check in CHECKS])


def test_labels_may_be_called_as_other_numbers_of_frames_nearly_are():
    metrics = {
        "leakage_dynamic_to_clip_with_sound": Metric(0.9),
        "leakage_dynamic_to_hair_with_16_frames": Metric(0.95),
    }
    (remark,) = [line for line in conspicuous(metrics, RandomDataset()) if line.startswith("z tells who it is")]
    assert "up to 0.90 of 1" in remark
