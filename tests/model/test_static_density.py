import dataclasses
import io

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from ddr_tf.errors import UserError
from ddr_tf.model.static_density import StaticDensity, StaticPosteriors, fit_static_density

tfd = tfp.distributions
STDDEV = 0.05


def of_two_parts(parts):
    """f of sequences whose parts, int `[S, 2]` of 4 values each, add a number each in 2 of 4 dimensions."""
    values = np.array([[-2.0, -0.6, 0.4, 2.2], [-1.8, -0.5, 0.7, 1.6]])
    directions = np.array([[1.0, 0.5, 0, 0], [-0.4, 1.0, 0, 0]])
    mean = sum(values[part][parts[:, part], None] * directions[part] for part in (0, 1))
    return StaticPosteriors(mean, np.broadcast_to([STDDEV, STDDEV, 1.0, 1.0], mean.shape))


def nearest_parts(static):
    """Which pair of parts is nearest in the first 2 dimensions, int `[n, 2]`, and how far away it is, `[n]`."""
    pairs = np.stack(np.meshgrid(range(4), range(4), indexing="ij"), -1).reshape(-1, 2)
    distances = np.linalg.norm(static[:, None, :2] - of_two_parts(pairs).mean[None, :, :2], axis=-1)
    return pairs[distances.argmin(axis=1)], distances.min(axis=1)


def test_independent_parts_are_combined_anew():
    random = np.random.RandomState(1)
    parts = random.randint(4, size=(400, 2))
    parts = parts[~(parts == 3).all(axis=1)]  # one combination was never trained
    density = fit_static_density(of_two_parts(parts), of_two_parts(random.randint(4, size=(100, 2))), seed=0)
    assert [group.means.shape[1] for group in density.groups] == [1, 1, 2]  # two parts, and what is noise
    found, distances = nearest_parts(density.distribution().sample(1000, seed=[0, 0]).numpy())
    assert np.mean(distances < 4 * STDDEV) > 0.95
    assert np.mean((found == 3).all(axis=1)) == pytest.approx(np.mean(parts[:, 0] == 3) ** 2, abs=0.03)


def test_samples_have_less_noise_than_draws_of_posteriors():
    random = np.random.RandomState(1)
    posteriors = [of_two_parts(random.randint(4, size=(count, 2))) for count in (400, 100)]
    density = fit_static_density(*posteriors, seed=0)
    np.testing.assert_allclose(density.noise, posteriors[0].stddev[0], rtol=1e-6)
    noisy, clean = (
        nearest_parts(of.distribution().sample(1000, seed=[0, 0]).numpy())[1] for of in (density, density.of_means)
    )
    assert np.median(noisy) == pytest.approx(1.18 * STDDEV, rel=0.15)  # the median of a Rayleigh distribution
    assert np.median(clean) < 0.4 * STDDEV


def test_without_known_noise_samples_are_draws():
    density = fit_static_density(*[of_two_parts(np.zeros((9, 2), int))] * 2, seed=0)
    unknown = dataclasses.replace(density, noise=None)
    assert unknown.of_means is unknown


def test_a_normal_stays_a_normal():
    random = np.random.RandomState(0)
    scale = np.array([[2.0, 0.0], [1.5, 0.5]])
    training, held_out = (
        StaticPosteriors(random.standard_normal((count, 2)) @ scale.T + 3, np.full((count, 2), 1e-2))
        for count in (2000, 500)
    )
    density = fit_static_density(training, held_out, seed=0).distribution()
    samples = density.sample(4000, seed=[0, 0]).numpy()
    np.testing.assert_allclose(samples.mean(axis=0), [3, 3], atol=0.2)
    np.testing.assert_allclose(np.cov(samples.T), scale @ scale.T, rtol=0.15, atol=0.1)


def test_log_prob_is_that_of_the_samples():
    parts = np.random.RandomState(0).randint(4, size=(300, 2))
    density = fit_static_density(of_two_parts(parts), of_two_parts(parts), seed=0).distribution()
    points = tf.constant(density.sample(5, seed=[0, 0]).numpy())  # of its own samples it remembers the s
    small = 1e-3 * tf.eye(4)
    slopes = (density.log_prob(points + small[0]) - density.log_prob(points - small[0])) / 2e-3
    with tf.GradientTape() as tape:
        tape.watch(points)
        log_prob = density.log_prob(points)
    assert log_prob.shape == (5,)
    np.testing.assert_allclose(tape.gradient(log_prob, points)[:, 0], slopes, rtol=0.05, atol=1)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_few_sequences_are_enough(count):
    posteriors = of_two_parts(np.zeros((count, 2), int) + np.arange(count)[:, None] % 4)
    samples = fit_static_density(posteriors, posteriors, seed=0).distribution().sample(3, seed=[0, 0])
    assert np.isfinite(samples).all()


def test_what_is_saved_is_loaded(tmp_path):
    posteriors = of_two_parts(np.random.RandomState(0).randint(4, size=(60, 2)))
    density = fit_static_density(posteriors, posteriors, seed=0)
    density.save(tmp_path / "density.npz")
    loaded = StaticDensity.load(tmp_path / "density.npz")
    samples = [each.of_means.distribution().sample(4, seed=[1, 2]).numpy() for each in (density, loaded)]
    np.testing.assert_array_equal(*samples)
    dataclasses.replace(density, noise=None).save(tmp_path / "density.npz")
    assert StaticDensity.load(tmp_path / "density.npz").noise is None


def array_file(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\3\4 and no more", b"\x80\4pickle", array_file(np.zeros(3))],
    ids=["empty", "zip", "pickle", "npy"],
)
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "density.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"density\.npz cannot be read") as error:
        StaticDensity.load(tmp_path / "density.npz")
    assert "pickle" not in str(error.value)


def one_normal(**changes):
    arrays = dict(offset=np.zeros(2), mixing=np.eye(2), weights_0=np.ones(1), means_0=np.zeros((1, 2)))
    arrays |= dict(scales_0=np.eye(2)[None]) | changes
    return {name: np.float32(array) for name, array in arrays.items()}


@pytest.mark.parametrize(
    "changes",
    [
        dict(offset=[0, np.nan]),
        dict(mixing=np.eye(3)),
        dict(scales_0=np.eye(2)),
        dict(weights_0=np.ones((1, 1))),
        dict(noise=np.ones(3)),
        dict(noise=[1, np.nan]),
    ],
    ids=["NaN", "mixing", "scales", "weights", "size of noise", "noise"],
)
def test_parameters_of_no_density_are_refused(tmp_path, changes):
    np.savez(tmp_path / "density.npz", **one_normal())
    assert StaticDensity.load(tmp_path / "density.npz").distribution().event_shape == [2]
    np.savez(tmp_path / "density.npz", **one_normal(**changes))
    with pytest.raises(UserError, match="not finite float32"):
        StaticDensity.load(tmp_path / "density.npz")


def test_noise_that_is_not_positive_is_refused(tmp_path):
    np.savez(tmp_path / "density.npz", **one_normal(noise=[1, 0]))
    with pytest.raises(UserError, match=r"density\.npz cannot be read \(noise that is not positive\)"):
        StaticDensity.load(tmp_path / "density.npz")


def test_few_sequences_with_many_dimensions_do_not_make_others_impossible():
    random = np.random.RandomState(0)
    training, held_out, others = (
        StaticPosteriors(0.5 * random.standard_normal((count, 48)), np.full((count, 48), 0.3)) for count in (12, 4, 200)
    )
    density = fit_static_density(training, held_out, seed=0).distribution()
    draws = others.draw(random).astype(np.float32)
    fitted, standard = (
        tf.reduce_mean(of.log_prob(draws)) for of in (density, tfd.MultivariateNormalDiag(np.zeros(48, np.float32)))
    )
    assert fitted > standard - 60  # nats; with two draws of each sequence it is 44 million less
    for posteriors, count in ((training, 40), (others, 3)):
        assert len(posteriors.draw(random)) == count * len(posteriors.mean)
