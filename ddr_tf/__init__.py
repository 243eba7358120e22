"""Disentangled dynamic representations from unordered data, in TensorFlow and Keras."""

import os
import typing

if typing.TYPE_CHECKING:
    from ddr_tf.serving.loading import LoadedModel

# Before TensorFlow is loaded: off by default on CPUs without AVX-512, and a training step is 1.7 times as fast with it.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# TensorFlow's start-up notes about missing GPUs would bury ours; errors still show.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

__version__ = "0.2.0"


def load(path: str | os.PathLike) -> "LoadedModel":
    """A trained model that takes arrays, images and folders, and gives NumPy arrays; see `LoadedModel`.

    Args:
      path: A run (`runs/<name>`) or an exported model (`saved_models/<name>`, or one of its versions).

    Raises:
      ddr_tf.errors.UserError: If there is neither.
    """
    from pathlib import Path

    from ddr_tf.serving import loading  # imports TensorFlow, which `import ddr_tf` should not

    return loading.load(Path(path))
