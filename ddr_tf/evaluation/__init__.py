"""How good a trained model is, measured on held-out sequences.

`protocol` says what is measured, and there is one module for each family of metrics: `bound`, `codes`, `swaps`,
`prior`, `frame_classifier` and `faces`. docs/evaluation.md explains every metric.
"""
