"""The model: networks, densities, the bound, and `ddr.DDR`, which joins them."""

import importlib
from typing import Any

import keras

if keras.config.backend() != "tensorflow":  # keras was imported before `ddr_tf`, which would have chosen TensorFlow
    raise ImportError(f"ddr_tf needs Keras on TensorFlow, not on {keras.config.backend()}: import ddr_tf before keras.")
# Whatever ~/.keras/keras.json says: frames are [.., H, W, C] of float32, and so are all kernels.
keras.config.set_image_data_format("channels_last")
keras.config.set_floatx("float32")

FITTED, STANDARD = "fitted", "standard"  # densities of f and z that samples can be drawn from


def __getattr__(name: str) -> Any:
    """Imports `DDR` when it is asked for: it needs TensorFlow Probability, which exported models do without."""
    if name != "DDR":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module("ddr_tf.model.ddr").DDR
