import types

import numpy as np
import pytest

from ddr_tf.data.sequence_dataset import HELD_OUT, TRAIN
from ddr_tf.evaluation.samples import Nearest, compared, measure_samples, nearest_frames
from evaluation_examples import puppets, tiny_model


def true_frames(identities, seed=0):
    """One true frame of each identity, float32 in [0, 1]."""
    poses = np.random.RandomState(seed).randint(12, size=len(identities))
    return puppets().swap_truth(identities, identities, poses) / np.float32(255)


def nearest(images):
    return Nearest(*(nearest_frames(images, puppets(), puppets().splits[split]) for split in (TRAIN, HELD_OUT)))


def metrics(images, reconstructed):
    found = compared(nearest(images), nearest(reconstructed), nearest(reconstructed), puppets())
    return {name: each.value for name, each in found.items()}


def test_a_true_frame_is_its_own_nearest():
    identities = puppets().splits[HELD_OUT][:20]
    noise = 0.02 * np.random.RandomState(0).standard_normal((20, 32, 32, 3)).astype(np.float32)
    found = nearest_frames(true_frames(identities) + noise, puppets(), puppets().splits[HELD_OUT])
    np.testing.assert_array_equal(found.sequence, identities)
    np.testing.assert_allclose(found.error, 4e-4, rtol=0.1)
    assert nearest_frames(true_frames(identities), puppets(), identities[::-1]).error.max() < 1e-6


def test_what_the_metrics_say_of_copies_of_new_ones_and_of_noise():
    training, held_out = puppets().splits[TRAIN][:60], puppets().splits[HELD_OUT][:60]
    random = np.random.RandomState(0)
    noise = 0.03 * random.standard_normal((60, 32, 32, 3)).astype(np.float32)
    reconstructed = true_frames(held_out) + noise
    copies = metrics(true_frames(training, seed=1) + noise, reconstructed)
    new = metrics(true_frames(held_out, seed=1) + noise, reconstructed)
    blurs = metrics(random.uniform(size=(60, 32, 32, 3)).astype(np.float32), reconstructed)
    assert copies["novel_fraction"] == 0 and new["novel_fraction"] == 1
    assert copies["memorised"] < 0.8 and new["memorised"] > 1.2
    assert copies["valid_fraction"] == new["valid_fraction"] == 1 and blurs["valid_fraction"] == 0
    assert new["psnr"] == pytest.approx(-20 * np.log10(0.03), abs=0.2)
    assert new["diversity_hair"] > 0.95


def test_the_ceiling_of_memorised_is_what_frames_of_all_identities_get():
    random = np.random.RandomState(0)

    def noisy(identities, seed):
        noise = 0.03 * random.standard_normal((len(identities), 32, 32, 3)).astype(np.float32)
        return nearest(true_frames(identities, seed) + noise)

    reconstructed = noisy(puppets().splits[HELD_OUT][:100], 0)
    anyone = [noisy(random.choice(1296, 100, replace=False), seed) for seed in (1, 2)]
    copies = noisy(random.choice(puppets().splits[TRAIN], 100), 3)
    fair, copied = (compared(shown, reconstructed, anyone[1], puppets())["memorised"] for shown in (anyone[0], copies))
    assert fair.value == pytest.approx(fair.ceiling, rel=0.15)
    assert copied.value < 0.85 * copied.ceiling < 0.85


def test_samples_of_one_value_have_no_diversity():
    one = puppets().splits[HELD_OUT]
    one = one[puppets().static_labels["hair"][one] == 2][:10]
    assert metrics(true_frames(one), true_frames(one))["diversity_hair"] == 0


def test_a_model_is_measured_with_both_densities():
    both = measure_samples(tiny_model(), puppets(), seeds=(0, 1), num_frames=4, num_samples=6)
    (measured,) = measure_samples(tiny_model(), puppets(), seeds=(0,), num_frames=4, num_samples=6)
    assert both[0] == measured and both[1] != measured
    assert {"sample_psnr", "sample_psnr_standard", "sample_diversity_skin", "sample_memorised_standard"} <= set(
        measured
    )
    assert measured["sample_novel_fraction"].chance == pytest.approx(296 / 1296)
    assert measured["sample_psnr"] == measured["sample_psnr_standard"]  # nothing was fitted yet


def test_labels_that_are_not_known_of_all_are_compared_where_they_are():
    numbers, held_out = np.arange(1296), puppets().splits[HELD_OUT][:60]
    found = nearest(true_frames(held_out))
    partly = types.SimpleNamespace(
        splits=puppets().splits,
        num_sequences=puppets().num_sequences,
        static_labels={
            "known": numbers % 4,
            "half": np.where(numbers % 2, -1, numbers // 2 % 3),
            "never": np.where(np.isin(numbers, held_out), -1, numbers % 2),
        },
    )
    diversity = {
        name: each.value for name, each in compared(found, found, found, partly).items() if "diversity" in name
    }
    known = held_out[held_out % 2 == 0]
    shares = np.bincount(known // 2 % 3) / len(known)
    expected = -np.sum(shares * np.log(shares)) / np.log(3)
    assert diversity.keys() == {"diversity_known", "diversity_half"}
    assert diversity["diversity_half"] == pytest.approx(expected)
