import numpy as np
import pytest
import tensorflow as tf

from ddr_tf.data.arrays import ArrayDataset
from ddr_tf.evaluation.held_out import direct_transfer, draw_swaps
from ddr_tf.evaluation.image_quality import psnr, ssim
from ddr_tf.evaluation.swaps import chance_of_accuracies, measure_swaps, swap_accuracies
from evaluation_examples import puppets, tiny_model


def draw():
    return draw_swaps(tiny_model(), puppets(), seed=0, num_frames=8, num_pairs=64, transfers=direct_transfer)


def test_an_oracle_scores_the_ceiling_and_copies_of_the_source_only_the_pose():
    swaps = draw()
    found = swap_accuracies(puppets(), swaps, {"oracle": swaps.truths[0], "copy": swaps.source})
    assert set(found["oracle"].values()) == {1.0}
    copied = found["copy"]
    assert copied["identity"] < 0.1
    assert copied["skin"] < 0.5
    assert copied["pose"] > 0.9


class Copies:
    """z of a frame is the frame itself."""

    def encode(self, frames):
        pixels = tf.cast(frames, tf.float32) / 255
        return {"static_mean": tf.zeros([len(pixels), 1]), "dynamic_mean": tf.reshape(pixels, [*pixels.shape[:2], -1])}

    def decode(self, static, dynamic):
        return tf.reshape(dynamic, [*dynamic.shape[:2], 32, 32, 3])


def test_reconstructions_are_set_against_those_with_z_of_another_frame():
    swaps = draw_swaps(Copies(), puppets(), seed=0, num_frames=4, num_pairs=8, transfers=direct_transfer)
    found = measure_swaps(puppets(), swaps)
    assert (found["reconstruction_psnr"].value, found["reconstruction_ssim"].value) == (120, pytest.approx(1))
    others = np.roll(swaps.source, -1, axis=1)
    assert found["reconstruction_psnr"].chance == pytest.approx(psnr(others, swaps.source).mean())
    assert found["reconstruction_ssim"].chance == pytest.approx(ssim(others, swaps.source).mean())
    assert found["reconstruction_psnr"].chance < 25
    alone = draw_swaps(Copies(), puppets(), seed=0, num_frames=1, num_pairs=8, transfers=direct_transfer)
    assert measure_swaps(puppets(), alone)["reconstruction_psnr"][:2] == (120, None)


def test_noise_scores_chance():
    swaps = draw()
    random = np.random.RandomState(0)
    truths = puppets().swap_truth(random.randint(0, 1296, 64), 0, random.randint(0, 12, 64))[:, None] / np.float32(255)
    found, chance = swap_accuracies(puppets(), swaps, {"": truths})[""], chance_of_accuracies(puppets(), swaps)
    assert chance["skin"] == pytest.approx(1 / 6) and chance["pose"] == pytest.approx(1 / 12)
    for name, value in chance.items():
        assert abs(found[name] - value) < 4 * (value * (1 - value) / 64) ** 0.5 + 0.02, name


def incomplete():
    """Six sequences, each without two of six poses."""
    poses = np.concatenate([np.delete(np.arange(6), [i, (i + 1) % 6]) for i in range(6)])
    bank = np.random.RandomState(0).randint(0, 256, (24, 32, 32, 3)).astype(np.uint8)
    splits = {"train": [0, 1], "held_out": [2, 3, 4, 5]}
    return ArrayDataset(bank, name="incomplete", frame_counts=[4] * 6, splits=splits, pose_numbers=poses)


def test_of_incomplete_sets_the_pairs_that_exist_are_used():
    sequences = incomplete()
    swaps = draw_swaps(tiny_model(), sequences, seed=0, num_frames=8, num_pairs=32, transfers=direct_transfer)
    assert swaps.truths[0].shape == (32, 8, 32, 32, 3)
    found = swap_accuracies(sequences, swaps, {"oracle": swaps.truths[0], "copy": swaps.source})
    assert found["oracle"] == {"identity": 1.0, "pose": 1.0}
    assert found["copy"]["identity"] == 0.0
    assert chance_of_accuracies(sequences, swaps) == {"identity": 1 / 4, "pose": 1 / 4}


def test_labels_called_identity_or_pose_have_metrics_of_their_own():
    sequences = incomplete()
    sequences.static_labels = {"identity": np.arange(6) // 3, "pose": np.arange(6) % 2}
    swaps = draw_swaps(tiny_model(), sequences, seed=0, num_frames=8, num_pairs=32, transfers=direct_transfer)
    found = measure_swaps(sequences, swaps)
    assert found["swap_identity_accuracy"].chance == found["swap_pose_accuracy"].chance == 1 / 4
    assert found["swap_label_identity_accuracy"].chance == found["swap_label_pose_accuracy"].chance == 1 / 2
