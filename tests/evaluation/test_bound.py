import keras
import numpy as np
import pytest

from conftest import RandomDataset
from ddr_tf.evaluation import bound
from ddr_tf.evaluation.bound import measure_bound, measure_importance_weighted_bound
from ddr_tf.evaluation.held_out import draw_codes
from ddr_tf.model.ddr import DDR
from ddr_tf.model.elbo import bits_per_dim
from evaluation_examples import tiny_model
from tiny import SIZES

SEQUENCES = RandomDataset(frame_counts=(16,) * 8, held_out=6)


@pytest.fixture(scope="module")
def codes():
    return draw_codes(tiny_model((16, 16, 1)), SEQUENCES, seed=0, num_frames=8, max_sequences=6)


def test_the_bound_is_its_parts_and_the_same_for_the_same_seed(codes):
    model = tiny_model((16, 16, 1))
    first, again, other = (measure_bound(model, SEQUENCES, codes, seed) for seed in (3, 3, 4))
    assert first == again
    assert first["elbo_nats_per_frame"] != other["elbo_nats_per_frame"]
    value = {name: measurement.value for name, measurement in first.items()}
    assert set(value) == {
        *("elbo_nats_per_frame", "bits_per_dim", "reconstruction_excess_nats_per_frame"),
        *("kl_static_nats_per_frame", "kl_dynamic_nats_per_frame"),
    }
    assert value["bits_per_dim"] == pytest.approx(bits_per_dim(value["elbo_nats_per_frame"], (16, 16, 1)))
    assert min(value["kl_static_nats_per_frame"], value["kl_dynamic_nats_per_frame"]) > 0
    assert first["reconstruction_excess_nats_per_frame"].ceiling == 0.0 < value["reconstruction_excess_nats_per_frame"]
    # A model that was not trained draws grey: each pixel of noise costs about log 2.
    assert value["elbo_nats_per_frame"] == pytest.approx(-256 * np.log(2), rel=0.1)


def test_a_normal_likelihood_tells_its_stddev(codes):
    keras.utils.set_random_seed(0)
    model = DDR((16, 16, 1), **SIZES, pixel_likelihood="normal")
    measured = measure_bound(model, SEQUENCES, codes, seed=0)
    assert measured["pixel_stddev"].value == pytest.approx(float(model.pixel_stddev))
    assert "reconstruction_excess_nats_per_frame" not in measured


def test_more_samples_tighten_the_bound_and_one_is_the_elbo(codes):
    model = tiny_model((16, 16, 1))
    one, many = (
        measure_importance_weighted_bound(model, SEQUENCES, codes, 0, num_sequences=4, num_samples=samples)
        for samples in (1, 20)
    )
    tighter, gain = (f"importance_weighted_{name}_nats_per_frame" for name in ("bound", "gain"))
    assert one[gain].value == pytest.approx(0, abs=1e-4)
    assert many[gain].value > 0
    elbo = measure_bound(model, SEQUENCES, codes, seed=0)["elbo_nats_per_frame"].value
    assert one[tighter].value == pytest.approx(elbo, rel=0.05)


def test_the_tighter_bound_is_of_sequences_that_the_seed_draws(codes, monkeypatch):
    drawn, frame_sets, model = [], bound.frame_sets, tiny_model((16, 16, 1))

    def recorded(sequences, sequence, frame):
        drawn.append(list(sequence))
        return frame_sets(sequences, sequence, frame)

    monkeypatch.setattr(bound, "frame_sets", recorded)
    for seed in (0, 0, 1, 2):
        measure_importance_weighted_bound(model, SEQUENCES, codes, seed, num_sequences=3, num_samples=1)
    assert drawn[0] == drawn[1] and len({tuple(of_seed) for of_seed in drawn}) == 3
    assert all(of_seed == sorted(of_seed) and set(of_seed) <= set(codes.sequence) for of_seed in drawn)


class Standard:
    """A fitted density that is p(f)."""

    def __init__(self, model):
        self.distribution = model.static_prior


def test_the_bound_with_a_fitted_density_that_is_the_prior_is_the_bound(codes):
    keras.utils.set_random_seed(0)
    model = DDR((16, 16, 1), **SIZES)  # and not the one that all tests share
    model.static_density = Standard(model)
    bounds = [measure_bound(model, SEQUENCES, codes, seed) for seed in range(20)]
    gains = [
        bound["elbo_with_fitted_density_nats_per_frame"].value - bound["elbo_nats_per_frame"].value for bound in bounds
    ]
    assert abs(np.mean(gains)) < 4 * np.std(gains) / len(gains) ** 0.5
    assert np.std(gains) > 0
