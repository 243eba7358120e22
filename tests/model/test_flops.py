import keras
import numpy as np
import pytest

from ddr_tf.model import flops
from ddr_tf.model.ddr import DDR
from ddr_tf.model.networks import RANK

SMALL = dict(frame_shape=(16, 32, 3), static_dim=4, dynamic_dim=2, width=5, pair_width=6, dense_units=7)


def test_by_hand():
    """Feature maps of 1 x 2 places; multiply-adds written out."""
    found = flops.per_frame(4, DDR(**SMALL).get_config())
    convs = [8 * 16 * 16 * 3 * 5, 4 * 8 * 16 * 5 * 5, 2 * 4 * 16 * 5 * 5, 1 * 2 * 16 * 5 * 5]
    assert found["frame encoder"] == (2 * sum(convs), 2 * (2 * sum(convs) - convs[0]))
    pairs = 2 * 9 * 5 * 12 + (2 * 9 * 6 * 6 + 2 * 6 * 7 + 7 * 8) / 4
    assert found["static posterior"] == (2 * pairs, 4 * pairs)
    posterior = 2 * 5 * 7 + 7 * 7 + 7 * 4 + 4 * 7 / 4
    assert found["dynamic posterior"] == (2 * posterior, 4 * posterior)
    prior = (4 * 7 + 7 * 7 + 7 * 4) / 4
    assert found["dynamic prior"] == (2 * prior, 4 * prior)
    deconvs = 2 * 16 * 25 + 8 * 16 * 25 + 32 * 16 * 25 + 128 * 16 * 5 * 3
    decoder = 2 * 7 + 4 * 7 / 4 + 7 * 7 + 7 * 2 * RANK + 2 * RANK * 5 + 4 * RANK * 5 / 4 + deconvs
    assert found["decoder"] == (2 * decoder, 4 * decoder)
    assert tuple(found) == flops.PARTS
    assert flops.total(found).both == pytest.approx(sum(part.both for part in found.values()))


def places_and_weights(layer, inputs_shape):
    """Multiply-adds of a call: the places a kernel is applied at, times its size."""
    shape = (
        inputs_shape if isinstance(layer, keras.layers.Conv2DTranspose) else layer.compute_output_shape(inputs_shape)
    )
    return np.prod(shape[:-1]) * np.prod(layer.kernel.shape)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        dict(static_aggregation="pooled", learned_prior=False),
        dict(static_aggregation="average"),
        dict(num_static_frames=1),
        dict(narrowing=2),
        dict(shortcuts=True),
        dict(shortcuts=True, static_aggregation="average"),
    ],
)
def test_against_the_layers_as_they_are_called(settings, monkeypatch):
    counted = []
    for kind in (keras.layers.Dense, keras.layers.Conv2D, keras.layers.Conv2DTranspose):

        def call(self, inputs, _call=kind.call, **kwargs):
            counted.append(places_and_weights(self, tuple(inputs.shape)))
            return _call(self, inputs, **kwargs)

        monkeypatch.setattr(kind, "call", call)
    model = DDR(**SMALL, **settings)
    batch, num_frames = 3, 4
    frames = np.zeros((batch, num_frames, *model.frame_shape), np.uint8)
    static = frames[:, :1] if model.options.num_static_frames else None
    decoded = frames[:, 1:] if model.options.num_static_frames else frames
    noise = np.zeros((batch, 4), np.float32), np.zeros((*decoded.shape[:2], 2), np.float32)
    model.elbo_terms(decoded, *noise, static)
    found = flops.total(flops.per_frame(num_frames, model.get_config()))
    product = batch * decoded.shape[1] * 2 * RANK * 5
    assert found.forward * batch * num_frames == pytest.approx(2 * (sum(counted) + product))


def test_no_gradient_of_pixels_is_computed():
    config = DDR(**SMALL, shortcuts=True).get_config()
    found, plain = (flops.per_frame(4, config | {"shortcuts": has})["static posterior"] for has in (True, False))
    assert found.backward - plain.backward == pytest.approx(found.forward - plain.forward)


def test_the_paper_s_network():
    """A training step is three times the forward pass, but for the first convolution."""
    found = flops.total(flops.per_frame(8, DDR((64, 64, 3)).get_config()))
    first = 2 * 32 * 32 * 16 * 3 * 256
    assert found.both == pytest.approx(3 * found.forward - first)
    assert 1e9 < found.forward < 2e9
