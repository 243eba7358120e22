"""scikit-learn, which takes seconds to import, imported when the evaluation first needs it."""

from types import ModuleType


def scikit_learn() -> ModuleType:
    """scikit-learn, with the parts of it that are used here."""
    import sklearn.compose
    import sklearn.decomposition
    import sklearn.discriminant_analysis
    import sklearn.ensemble
    import sklearn.linear_model
    import sklearn.metrics
    import sklearn.model_selection
    import sklearn.multioutput
    import sklearn.neural_network
    import sklearn.pipeline
    import sklearn.preprocessing

    return sklearn
