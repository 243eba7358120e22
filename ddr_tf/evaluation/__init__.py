"""How good a trained model is, measured on held-out sequences."""
