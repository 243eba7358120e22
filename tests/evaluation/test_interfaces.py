"""What the evaluation asks of a model is what `DDR` and exported models have."""

import inspect

import pytest

from ddr_tf.evaluation.interfaces import Autoencoder, DensityModel
from ddr_tf.model.ddr import DDR
from ddr_tf.serving.exported_model import ExportedModel

METHODS = [name for kind in (Autoencoder, DensityModel) for name in vars(kind) if not name.startswith("_")]


@pytest.mark.parametrize("model", [DDR, ExportedModel])
@pytest.mark.parametrize("name", METHODS)
def test_a_model_has_the_methods_with_their_arguments(model, name):
    asked = inspect.signature(getattr(DensityModel, name)).parameters
    had = inspect.signature(getattr(model, name)).parameters
    assert list(had)[: len(asked)] == list(asked)
    assert all(parameter.default is not parameter.empty for parameter in list(had.values())[len(asked) :])


def test_there_is_something_to_ask_for():
    assert {"encode", "decode", "sample_codes", "features", "dynamic_posterior", "terms_of", "log_weights"} <= set(
        METHODS
    )
