"""An exported model has the densities of the model that was exported."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from ddr_tf.model.ddr import DDR
from ddr_tf.serving.exported_model import ExportedModel
from ddr_tf.serving.exporting import write_saved_model
from tiny import SIZES

FRAMES = tf.constant(np.random.RandomState(0).randint(0, 256, (2, 3, 16, 16, 1)).astype(np.uint8))
NOISE = tf.ones([2, 4]), tf.ones([2, 3, 2])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="module")
def models(folder):
    """A model, and what was exported of it."""
    keras.utils.set_random_seed(0)
    model = DDR((16, 16, 1), **SIZES)
    write_saved_model(model, folder)
    return model, ExportedModel(folder)


def test_sizes_are_those_of_the_signatures(models):
    _, exported = models
    assert (exported.frame_shape, exported.static_dim, exported.dynamic_dim) == ((16, 16, 1), 4, 2)
    assert exported.static_density is exported.dynamic_density is exported.pixel_stddev is None


def test_bounds_are_those_of_the_model(models):
    model, exported = models
    for left, right in zip(model.elbo_terms(FRAMES, *NOISE), exported.elbo_terms(FRAMES, *NOISE), strict=True):
        np.testing.assert_allclose(right, left, rtol=1e-4)
    np.testing.assert_allclose(exported.log_weights(FRAMES, *NOISE), model.log_weights(FRAMES, *NOISE), rtol=1e-4)


def test_codes_and_samples_are_those_of_the_model(models):
    model, exported = models
    codes = model.encode(FRAMES)
    for name, value in exported.encode(FRAMES).items():
        np.testing.assert_allclose(value, codes[name], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        exported.decode(codes["static_mean"], codes["dynamic_mean"]),
        model.decode(codes["static_mean"], codes["dynamic_mean"]),
        atol=1e-5,
    )
    for left, right in zip(*(one.sample_codes(2, 3, tf.constant([0, 1])) for one in models), strict=True):
        np.testing.assert_allclose(right, left, rtol=1e-4, atol=1e-6)


def test_the_card_tells_the_stddev_of_pixels(models, folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra/model_card.json").write_text(json.dumps({"model": {"pixel_stddev": 0.25}}))
    exported = ExportedModel(tmp_path)
    assert exported.pixel_stddev == 0.25
    assert float(exported.likelihood(*(tf.zeros(noise.shape) for noise in NOISE)).stddev()[0, 0, 0, 0, 0]) == 0.25
