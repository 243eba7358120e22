import numpy as np
import pytest

from ddr_tf.errors import UserError
from ddr_tf.model.ddr import DDR
from model_examples import TINY


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frame_shape": (20, 16, 1)}, "multiples of 16"),
        ({"static_dim": 0}, "DDR.static_dim must be at least 1, got 0"),
        ({"kl_warmup_steps": -1}, "DDR.kl_warmup_steps"),
        ({"kl_static_weight": -0.5}, "DDR.kl_static_weight"),
        ({"narrowing": 0}, "DDR.narrowing"),
        ({"gradient_clip_norm": 0.0}, "DDR.gradient_clip_norm"),
        ({"initial_static_stddev": 0.0}, "DDR.initial_static_stddev"),
        ({"dtype": "float16"}, "DDR.dtype must be one of float32, mixed_bfloat16"),
        ({"initializer": "hex"}, "no initializer 'hex'"),
        ({"static_aggregation": "sum"}, "static_aggregation must be one of pairs, pooled, average, product, got 'sum'"),
        ({"pixel_likelihood": "laplace"}, "DDR.pixel_likelihood must be one of bernoulli, normal, got 'laplace'"),
        ({"learned_prior": "no"}, "DDR.learned_prior must be True or False, got 'no'"),
        ({"noise_seed": None}, "DDR.noise_seed must be a whole number, got None"),
        ({"gradient_clip_norm": None}, "DDR.gradient_clip_norm must be a number, got None"),
        ({"kl_static_weight": float("inf")}, "DDR.kl_static_weight must be 0 or more, and finite, got inf"),
        ({"initial_static_stddev": 1e9}, "at most 100"),
        ({"frame_shape": (16, 16, 0)}, "at least one channel"),
        ({"initializer": None}, "DDR.initializer must be the name of one of Keras's initializers, got None"),
        ({"num_static_frames": -1}, "DDR.num_static_frames must be 0 or more, got -1"),
        ({"num_static_frames": 2, "min_static_frames": 3}, "min_static_frames must be at most .*, 2, got 3"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        DDR(**({"frame_shape": (16, 16, 1)} | arguments))


def test_numbers_of_numpy_are_numbers():
    model = DDR(np.array([16, 16, 1]), **{name: np.int64(size) for name, size in TINY.items()}, noise_seed=np.int64(3))
    assert model.get_config()["static_dim"] == TINY["static_dim"]
    assert all(type(value) is not np.int64 for value in model.get_config().values())


def test_get_config_keeps_what_was_given():
    given = dict(
        TINY,
        dynamic_dim=3,
        kl_warmup_steps=7,
        gradient_clip_norm=2.0,
        noise_seed=5,
        initializer="he_normal",
        frame_shape=(16, 16, 1),
        static_aggregation="product",
        learned_prior=False,
        pixel_likelihood="normal",
        shortcuts=True,
        leaky=True,
        num_static_frames=2,
        narrowing=2,
        kl_static_weight=0.25,
    )
    config = DDR(**given).get_config()
    assert {name: config[name] for name in given} == given
