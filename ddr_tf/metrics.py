"""Figures of codes: pure functions from NumPy arrays of codes and labels to one number.

Each says what perfect codes and what codes that know nothing get. Variances are unbiased, so that 0 is chance.
"""

import warnings

import numpy as np
from numpy.typing import ArrayLike

from ddr_tf.errors import UserError

ACTIVE_VARIANCE = 0.01  # a unit is active if the variance of its posterior mean is above
FOLDS = 5  # of the cross-validation of probes, each with identities of its own
PROBE_UNITS = 64  # hidden units of the small MLP
PROBE_ITERATIONS = 200  # at most


def active_units(means: np.ndarray) -> int:
    """How many units of a code vary with the data; Burda et al., "Importance Weighted Autoencoders", Section 5.2.

    Args:
      means: float `[n, D]`, posterior means.

    Returns:
      0 to D.
    """
    return int((means.var(axis=0) > ACTIVE_VARIANCE).sum())


def consistency(codes: np.ndarray) -> float:
    """1 - variance within groups / total variance, summed over dimensions.

    For f from disjoint frames of one identity: how much f depends on the identity alone. For z of one pose of several
    identities: how coherent the dynamic space is between them.

    Args:
      codes: float `[G, M, D]`: groups, at least 2 members of each, dimensions.

    Returns:
      1 if members of a group have the same code; 0 on average if codes have nothing to do with groups.
    """
    within = codes.var(axis=1, ddof=1).mean(axis=0).sum()
    total = codes.reshape(-1, codes.shape[-1]).var(axis=0, ddof=1).sum()
    return float(1 - within / total) if total > 0 else 0.0


def coverage(found: ArrayLike, num_classes: int) -> float:
    """Entropy of how often each class was found, over that of the uniform distribution.

    Args:
      found: int `[n]`, 0 to num_classes - 1.
      num_classes: At least 2.

    Returns:
      1 if all were found equally often, 0 if only one was.
    """
    fractions = np.bincount(found, minlength=num_classes) / np.size(found)
    fractions = fractions[fractions > 0]
    return float(-(fractions * np.log(fractions)).sum() / np.log(num_classes))


def probe(codes: np.ndarray, labels: np.ndarray, identities: np.ndarray) -> float:
    """How well labels can be read from codes, (accuracy - chance) / (1 - chance).

    The balanced accuracy of logistic regression or of a small MLP, whichever is better, on identities that they were
    not fitted on.

    Args:
      codes: float `[n, D]`.
      labels: int `[n]`, at least two different ones.
      identities: int `[n]`, at least `FOLDS` different ones.

    Returns:
      1 if labels can be read without an error, 0 if no better than a guess, below 0 if worse.

    Raises:
      UserError: If scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import balanced_accuracy_score
        from sklearn.model_selection import GroupKFold, cross_val_predict
        from sklearn.neural_network import MLPClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise UserError(f"Probes need scikit-learn ({error}); pip install -e '.[eval]'.") from error
    probes = (
        LogisticRegression(max_iter=PROBE_ITERATIONS),
        MLPClassifier((PROBE_UNITS,), learning_rate_init=1e-2, max_iter=PROBE_ITERATIONS, random_state=0),
    )
    folds = GroupKFold(FOLDS)
    # Warnings: that a fit could go on, and that a fold lacks a class. Threads only wait for each other at this size.
    with warnings.catch_warnings(action="ignore"), threadpool_limits(1):
        accuracies = [
            balanced_accuracy_score(
                labels,
                cross_val_predict(make_pipeline(StandardScaler(), each), codes, labels, groups=identities, cv=folds),
            )
            for each in probes
        ]
    chance = 1 / len(np.unique(labels))
    return float((max(accuracies) - chance) / (1 - chance))
