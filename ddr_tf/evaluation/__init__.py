"""How good a trained model is, measured on held-out sequences.

`evaluate` and `evaluate_model` measure; there is one module for each family of metrics: `bound`, `codes`,
`disentanglement`, `swaps`, `prior`, `frame_classifier` and `faces`. docs/evaluation.md explains every metric.
"""

import importlib
from typing import Any

# Imported on first use, since training needs only `codes` of this package.
_EXPORTS = {"evaluate": "protocol", "evaluate_model": "any_model", "Settings": "settings", "Metric": "metric"}

__all__ = ["Metric", "Settings", "evaluate", "evaluate_model"]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
