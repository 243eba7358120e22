import numpy as np
import pytest

from conftest import RandomDataset
from ddr_tf.training import fitted_densities as module
from ddr_tf.training.fitted_densities import drawn_codes, drawn_places, fitted_densities, noise_of_places
from tiny import TINY

DATASET = RandomDataset(frame_counts=(5,) * 12, held_out=4)


@pytest.fixture(scope="module")
def ddr():
    return TINY(frame_shape=(16, 16, 1), initial_static_stddev=0.1)


@pytest.mark.parametrize(("split", "count"), [("train", 16), ("held_out", 8)])
def test_each_sequence_is_drawn_about_twice(ddr, split, count):
    codes = drawn_codes(ddr, DATASET, split, num_frames=3, seed=0)
    assert codes["static_mean"].shape == codes["static_stddev"].shape == (count, 4)
    assert codes["dynamic_mean"].shape == (count, 3, 2)
    again, other = (drawn_codes(ddr, DATASET, split, num_frames=3, seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(codes["static_mean"], again["static_mean"])
    assert (codes["static_mean"] != other["static_mean"]).any()


def test_of_many_sequences_some_are_drawn(ddr, monkeypatch):
    monkeypatch.setattr(module, "MAX_DRAWN", 5)
    assert drawn_codes(ddr, DATASET, "train", num_frames=2, seed=0)["static_mean"].shape == (5, 4)


def test_places_are_those_under_the_prior():
    shape = (500, 3, 2)
    codes = dict(dynamic_mean=np.full(shape, 5.0), dynamic_stddev=np.full(shape, 0.5))
    codes |= dict(prior_mean=np.full((500, 2), 1.0), prior_stddev=np.full((500, 2), 2.0))
    places = drawn_places(codes, seed=0)
    assert places.shape == (1500, 2)
    np.testing.assert_allclose(places.mean(axis=0), 2.0, atol=0.03)
    np.testing.assert_allclose(places.std(axis=0), 0.25, atol=0.02)
    codes["dynamic_stddev"][0, 0] = 100.0  # one frame of which z says nothing
    np.testing.assert_allclose(noise_of_places(codes), [0.25, 0.25])


def test_the_densities_are_near_what_they_were_fitted_to(ddr):
    codes = drawn_codes(ddr, DATASET, "train", num_frames=3, seed=0)
    densities = fitted_densities(ddr, DATASET, num_frames=3, seed=0)
    for density, points in zip(densities, (codes["static_mean"], drawn_places(codes, seed=0)), strict=True):
        samples = density.distribution().sample(500, seed=[0, 0]).numpy()
        assert samples.shape == (500, points.shape[-1])
        np.testing.assert_allclose(samples.mean(axis=0), points.mean(axis=0), atol=4 * samples.std())
