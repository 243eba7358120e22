"""Contact sheets, plots, and the gallery of a model."""
