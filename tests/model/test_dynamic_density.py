import numpy as np
import pytest
import tensorflow as tf

from ddr_tf.errors import UserError
from ddr_tf.model.dynamic_density import DynamicDensity, fit_dynamic_density

ISLANDS = np.random.RandomState(1).uniform(-2, 2, (12, 2))
STDDEV = 0.03


def places(random, count):
    return ISLANDS[random.randint(len(ISLANDS), size=count)] + STDDEV * random.standard_normal((count, 2))


@pytest.fixture(scope="module")
def density():
    random = np.random.RandomState(0)
    return fit_dynamic_density(places(random, 2000), places(random, 500), np.full(2, STDDEV), seed=0)


def test_islands_are_found_and_nothing_between_them(density):
    samples = density.sample([10, 100], seed=[0, 0]).numpy().reshape(1000, 2)
    distances = np.linalg.norm(samples[:, None] - ISLANDS, axis=-1)
    assert np.mean(distances.min(axis=1) < 4 * STDDEV) > 0.97
    assert np.bincount(distances.argmin(axis=1), minlength=12).min() > 40


def test_samples_have_less_noise_than_draws_of_posteriors(density):
    samples = density.of_means.sample([1000], seed=[0, 0]).numpy()
    distances = np.linalg.norm(samples[:, None] - ISLANDS, axis=-1).min(axis=1)
    assert np.median(distances) < 0.7 * STDDEV  # of draws: 1.18
    unknown = DynamicDensity(density.mixture)
    assert unknown.of_means is unknown


def test_samples_are_of_the_distribution(density):
    samples = density.sample([20_000], seed=[1, 2]).numpy()
    expected = density.distribution().sample(20_000, seed=[3, 4]).numpy()
    np.testing.assert_allclose(samples.mean(axis=0), expected.mean(axis=0), atol=0.05)
    np.testing.assert_allclose(np.cov(samples.T), np.cov(expected.T), atol=0.05)
    log_prob = density.distribution().log_prob
    assert np.mean(log_prob(samples)) == pytest.approx(np.mean(log_prob(expected)), abs=0.05)
    function = tf.function(lambda count: density.sample([count, 3], seed=[1, 2]))
    assert function(tf.constant(5)).shape == (5, 3, 2)


def test_a_normal_is_one_normal():
    random = np.random.RandomState(0)
    training, held_out = (random.standard_normal((count, 2)) for count in (3000, 800))
    density = fit_dynamic_density(training, held_out, np.full(2, 0.1), seed=0)
    assert len(density.mixture.weights) == 1
    np.testing.assert_allclose(density.mixture.scales[0], np.eye(2), atol=0.05)


@pytest.mark.parametrize("count", [2, 3])  # each sequence is drawn twice
def test_few_places_are_enough(count):
    density = fit_dynamic_density(ISLANDS[:count], ISLANDS[:1], np.full(2, STDDEV), seed=0)
    for each in (density, density.of_means):
        assert np.isfinite(each.distribution().sample(3, seed=[0, 0])).all()


def test_what_is_saved_is_loaded(density, tmp_path):
    density.save(tmp_path / "density.npz")
    loaded = DynamicDensity.load(tmp_path / "density.npz")
    assert loaded.dynamic_dim == 2
    for left, right in zip((*density.mixture, density.noise), (*loaded.mixture, loaded.noise), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:200]),
        lambda path: np.savez(path, weights=np.ones(1, np.float32)),
        lambda path: np.savez(path, weights=np.ones(1), means=np.zeros((1, 2)), scales=np.eye(2)[None]),
        lambda path: np.savez(path, **dict(np.load(path)) | {"noise": np.float32([0.1, 0])}),
    ],
    ids=["empty", "cut", "incomplete", "float64", "noise"],
)
def test_a_damaged_file_is_named(density, tmp_path, damage):
    density.save(tmp_path / "density.npz")
    damage(tmp_path / "density.npz")
    with pytest.raises(UserError, match=r"density of z in .*density\.npz cannot be read"):
        DynamicDensity.load(tmp_path / "density.npz")
