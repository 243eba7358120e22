"""Disentangled dynamic representations from unordered data, in TensorFlow and Keras.

`load` opens a trained model. `DDR`, the model, and the datasets `Puppets`, `Sprites`, `MovingMNIST` and `FrameFolders`
are for scripts that train. Whatever needs TensorFlow is imported when it is first asked for.
"""

import importlib
import os
import typing

from ddr_tf import startup

if typing.TYPE_CHECKING:
    from ddr_tf.data.frame_folders import FrameFolders
    from ddr_tf.data.moving_mnist import MovingMNIST
    from ddr_tf.data.puppets import Puppets
    from ddr_tf.data.sprites import Sprites
    from ddr_tf.model.ddr import DDR
    from ddr_tf.serving.loading import LoadedModel

__all__ = ["DDR", "FrameFolders", "MovingMNIST", "Puppets", "Sprites", "__version__", "load"]
__version__ = "0.3.0.dev2"

_MODULES = {
    "DDR": "ddr_tf.model.ddr",
    "FrameFolders": "ddr_tf.data.frame_folders",
    "MovingMNIST": "ddr_tf.data.moving_mnist",
    "Puppets": "ddr_tf.data.puppets",
    "Sprites": "ddr_tf.data.sprites",
}

startup.set_environment()


def load(path: str | os.PathLike, value_range: tuple[float, float] | None = None) -> "LoadedModel":
    """A trained model that takes arrays, images and folders, and gives NumPy arrays; see `LoadedModel`.

    Args:
      path: A run (`runs/<name>`) or an exported model (`saved_models/<name>`, or one of its versions); or the name of
        an exported model in `saved_models/`, here or among those that come with ddr_tf.
      value_range: The values that are black and white in images of 16 or 32 bits a pixel, as (0, 4095) for 12 bits in
        files of 16; None: as in training.

    Raises:
      ddr_tf.errors.UserError: If there is neither.
    """
    startup.import_tensorflow()
    return importlib.import_module("ddr_tf.serving.loading").load(path, value_range)


def __getattr__(name: str) -> typing.Any:
    """Imports the classes of `__all__` when they are first asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    startup.import_tensorflow()
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
