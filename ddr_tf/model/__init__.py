"""The model: networks, densities, the bound, and `DDR`, which joins them."""

from ddr_tf.model.ddr import DDR

__all__ = ["DDR"]
