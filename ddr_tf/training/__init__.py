"""Training: from settings to a finished run directory.

Importing it registers all that a gin file may name, and all that `keras.models.load_model` may find in `model.keras`.
"""

from ddr_tf.training.loop import train

__all__ = ["train"]
