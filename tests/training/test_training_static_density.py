import numpy as np
import pytest

from conftest import RandomDataset
from ddr_tf.training import static_density
from ddr_tf.training.static_density import fitted_static_density, static_posteriors
from tiny import TINY

DATASET = RandomDataset(frame_counts=(5,) * 12, held_out=4)


@pytest.fixture(scope="module")
def ddr():
    return TINY(frame_shape=(16, 16, 1), initial_static_stddev=0.1)


@pytest.mark.parametrize(("split", "count"), [("train", 16), ("held_out", 8)])
def test_each_sequence_is_drawn_about_twice(ddr, split, count):
    posteriors = static_posteriors(ddr, DATASET, split, num_frames=3, seed=0)
    assert posteriors.mean.shape == posteriors.stddev.shape == (count, 4)
    assert (posteriors.stddev > 0).all()
    again, other = (static_posteriors(ddr, DATASET, split, num_frames=3, seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(posteriors.mean, again.mean)
    assert (posteriors.mean != other.mean).any()


def test_of_many_sequences_some_are_drawn(ddr, monkeypatch):
    monkeypatch.setattr(static_density, "MAX_DRAWN", 5)
    assert static_posteriors(ddr, DATASET, "train", num_frames=2, seed=0).mean.shape == (5, 4)


def test_the_density_is_near_what_it_was_fitted_to(ddr):
    means = static_posteriors(ddr, DATASET, "train", num_frames=3, seed=0).mean
    density = fitted_static_density(ddr, DATASET, num_frames=3, seed=0).distribution()
    samples = density.sample(500, seed=[0, 0]).numpy()
    assert samples.shape == (500, 4)
    np.testing.assert_allclose(samples.mean(axis=0), means.mean(axis=0), atol=4 * samples.std())
