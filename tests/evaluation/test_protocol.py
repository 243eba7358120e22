import dataclasses

import numpy as np
import pytest

from conftest import RandomDataset
from ddr_tf.data.moving_mnist import MovingMNIST
from ddr_tf.evaluation.image_quality import best_of_truths, psnr
from ddr_tf.evaluation.protocol import checked, evaluate, over_draws
from ddr_tf.evaluation.settings import Settings
from evaluation_examples import FEW, puppets, tiny_model


@pytest.mark.slow
def test_metrics_are_deterministic_and_have_their_levels():
    few = dataclasses.replace(FEW, num_seeds=1)
    first, second = (evaluate(tiny_model(), puppets(num_poses=16), few) for _ in range(2))
    assert first == second
    assert {"reconstruction_psnr", "swap_psnr", "swap_relative_psnr", "swap_conditioned_psnr"} <= first.keys()
    assert {"swap_identity_accuracy", "swap_hair_accuracy", "swap_pose_accuracy"} <= first.keys()
    assert first["swap_pose_accuracy"].chance == pytest.approx(1 / 16)
    assert first["swap_pose_accuracy"].ceiling == 1.0
    assert first["swap_psnr"].chance > 5
    assert {
        "probe_dynamic_to_pose",
        "leakage_static_to_pose",
        "dynamic_coherence",
        "prior_pose_coverage",
    } <= first.keys()
    assert (first["leakage_dynamic_to_skin"].chance, first["leakage_dynamic_to_skin"].ceiling) == (0.0, 1.0)


def test_either_digit_may_follow_either_trajectory(drawn_data):
    digits = MovingMNIST(str(drawn_data), num_train=40, num_held_out=80)
    first, second = np.array([[3], [4]]), np.array([[5], [6]])
    there, other = digits.swap_truths(first, second, np.arange(4)[None])
    np.testing.assert_array_equal(there, digits.swap_truth(first, second, np.arange(4)[None]))
    assert (there != other).any()
    truths = [there / 255, other / 255]
    assert best_of_truths(psnr, truths[1], truths) == pytest.approx(120)  # no error at all, as `psnr` bounds it
    mixed = np.concatenate([truths[0][:1], truths[1][1:]])  # a pair each
    assert best_of_truths(psnr, mixed, truths) == pytest.approx(120)
    alternating = np.concatenate([truths[0][:, :2], truths[1][:, 2:]], axis=1)  # within a pair: wrong
    assert best_of_truths(psnr, alternating, truths) < 70
    found = evaluate(tiny_model((64, 64, 1)), digits, dataclasses.replace(FEW, num_seeds=1))
    assert {
        "swap_psnr",
        "swap_ssim",
        "probe_static_to_digit_1",
        "leakage_dynamic_to_digit_2",
        "probe_dynamic_to_y_1",
    } <= found.keys()
    assert not {"swap_identity_accuracy", "dynamic_coherence", "leakage_static_to_pose"} & found.keys()


def test_without_true_frames_there_is_what_needs_none():
    model, settings = tiny_model((16, 16, 1)), Settings(num_seeds=2)
    few = RandomDataset()
    eight = dataclasses.replace(settings, frame_counts=(8,))
    assert set(evaluate(model, few, eight)) == {"reconstruction_psnr", "reconstruction_ssim"}
    more = RandomDataset(frame_counts=(16,) * 8, held_out=6)
    found = evaluate(model, more, settings)
    assert {"elbo_nats_per_frame", "static_consistency", "order_dependence", "active_units_static"} <= found.keys()
    assert found["order_dependence"].value < 1e-5
    assert found["importance_weighted_gain_nats_per_frame"].value > 0
    parts = [found[f"{name}_nats_per_frame"].value for name in ("elbo", "kl_static", "kl_dynamic")]
    assert parts[0] < -parts[1] - parts[2]


@pytest.mark.parametrize(
    ("frame_counts", "held_out", "wanted"),
    [
        ([16] * 8, 6, (8,)),
        ([16] * 5 + [4] * 10, 14, (8,)),
        ([16] * 4 + [14] * 4, 6, (8, 4)),
        ([14] * 4 + [4] * 3, 6, (8, 2)),
        ([9, 9], 1, (8, 4)),
        ([3] * 8, 6, (8,)),
    ],
)
def test_shorter_sequences_are_measured_with_as_many_frames_as_they_have(frame_counts, held_out, wanted):
    sequences = RandomDataset(frame_counts[::-1], held_out=held_out)
    assert checked(sequences, None).frame_counts == wanted
    assert checked(sequences, Settings(frame_counts=(3,))).frame_counts == (3,)


def test_it_is_said_which_labels_no_probe_reads(capsys):
    few = RandomDataset()
    few.static_labels = {"name": np.arange(6), "town": np.arange(6) % 2}
    few.frame_labels = {"word": np.arange(few.frame_counts.sum())}
    few.label_names = {name: ("a", "b") for name in ("name", "town", "word")}
    over_draws(lambda *_: {}, few, Settings(num_seeds=1, frame_counts=(8,)), progress=True)
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "classes" in line]
    assert said == "The label word has 48 classes, more than 20, so no probe reads it."
