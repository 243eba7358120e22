"""Figures of codes: pure functions from NumPy arrays of codes and labels to one number.

Each says what perfect codes and what codes that know nothing get.
"""

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ddr_tf.errors import UserError

ACTIVE_VARIANCE = 0.01  # a unit is active if the variance of its posterior mean is above
FOLDS = 5  # of the cross-validation of probes, each with identities of its own
PROBE_UNITS = 64  # hidden units of the small MLP
PROBE_ITERATIONS = 200  # at most
MAX_ROWS = 1500  # codes that a probe is fitted and judged on, drawn at random; more change little and take minutes
MAX_CLASSES = 20  # values of a label that is treated as classes


class Measurement(NamedTuple):
    """A figure of one seed.

    Attributes:
      value: What was found.
      chance: What a model that knows nothing of what is measured gets, or None where there is no such level.
      ceiling: What a perfect model gets, or None where there is no limit.
    """

    value: float
    chance: float | None = None
    ceiling: float | None = None


def as_classes(labels: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    """The labels that are integers or booleans of at least 2 and at most `MAX_CLASSES` known values.

    Returns:
      name -> int64 `[n]`, numbers of the values in ascending order, -1 where not known (below 0).
    """
    found = {}
    for name, values in labels.items():
        values = np.asarray(values)
        if values.dtype.kind in "iub":
            known = values >= 0
            distinct, numbers = np.unique(values[known], return_inverse=True)
            if 2 <= len(distinct) <= MAX_CLASSES:
                found[name] = np.full(len(values), -1)
                found[name][known] = numbers
    return found


def as_numbers(labels: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    """The labels that are real numbers, or integers of more than `MAX_CLASSES` values, and not all the same.

    Returns:
      name -> float64 `[n]`, NaN where not known.
    """
    found = {}
    for name, values in labels.items():
        values = np.asarray(values)
        if values.dtype.kind == "f" or (values.dtype.kind in "iu" and len(np.unique(values)) > MAX_CLASSES):
            values = values.astype(np.float64)
            if len(np.unique(values[~np.isnan(values)])) > 1:
                found[name] = values
    return found


def active_units(means: np.ndarray) -> int:
    """How many units of a code vary with the data; Burda et al., "Importance Weighted Autoencoders", Section 5.2.

    Args:
      means: float `[n, D]`, posterior means.

    Returns:
      0 to D.
    """
    return int((means.var(axis=0) > ACTIVE_VARIANCE).sum())


def consistency(codes: np.ndarray) -> float:
    """Variance between groups / (that and the variance within groups), summed over dimensions.

    For f from disjoint frames of one identity: how much f depends on the identity alone. For z of one pose of several
    identities: how coherent the dynamic space is between them. The variance between groups is that of their means less
    what the members' spread puts into it (the intraclass correlation; Shrout & Fleiss, 1979), so few groups or members
    do not change what is expected.

    Args:
      codes: float `[G, M, D]`: at least 2 groups, at least 2 members of each, dimensions.

    Returns:
      1 if members of a group have the same code; 0 on average if codes have nothing to do with groups.
    """
    within = codes.var(axis=1, ddof=1).mean(axis=0).sum()
    between = codes.mean(axis=1).var(axis=0, ddof=1).sum() - within / codes.shape[1]
    return float(between / (between + within)) if between + within > 0 else 0.0


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


def retrieval(codes: np.ndarray) -> float:
    """How often the nearest code from another set of frames is that of the same identity.

    Args:
      codes: float `[S, 2, D]`, f of S identities from two disjoint sets of frames.

    Returns:
      Fraction of the first sets whose nearest second set, in Euclidean distance, is their own; chance is 1 / S.
    """
    first, second = codes[:, 0].astype(np.float64), codes[:, 1].astype(np.float64)
    distance = np.square(second).sum(axis=1) - 2 * first @ second.T  # and a constant of each row
    return float((distance.argmin(axis=1) == np.arange(len(codes))).mean())


def judged(probabilities: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """The field's figures of a classifier's view of generated frames (Li & Mandt, 2018; Bai et al., 2021).

    Args:
      probabilities: float `[n, K]`, p(y | x) of each frame.
      truth: int `[n]`, the right class of each.

    Returns:
      `accuracy`; `entropy` H(y) of the mean prediction, and `conditional_entropy` H(y | x), the mean over frames, in
      nats; `inception_score`, exp(H(y) - H(y | x)), 1 to K.
    """

    def entropy(p: np.ndarray) -> np.ndarray:
        return -(p * np.log(np.maximum(p, 1e-12))).sum(axis=-1)

    marginal, conditional = float(entropy(probabilities.mean(axis=0))), float(entropy(probabilities).mean())
    return {
        "accuracy": float((probabilities.argmax(axis=1) == truth).mean()),
        "entropy": marginal,
        "conditional_entropy": conditional,
        "inception_score": float(np.exp(marginal - conditional)),
    }


def _subset(*arrays: np.ndarray) -> list[np.ndarray]:
    """The same `MAX_ROWS` rows of each array, or all."""
    chosen = np.sort(np.random.RandomState(0).permutation(len(arrays[0]))[:MAX_ROWS])
    return [each[chosen] for each in arrays]


def _predictions(
    estimators: tuple, folds: Any, codes: np.ndarray, targets: np.ndarray, identities: np.ndarray
) -> list[np.ndarray]:
    """What each of several scikit-learn estimators says of identities that it was not fitted on."""
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    # Warnings: that a fit could go on, and that a fold lacks a class. Threads only wait for each other at this size.
    with warnings.catch_warnings(action="ignore"), threadpool_limits(1):
        return [
            cross_val_predict(make_pipeline(StandardScaler(), each), codes, targets, groups=identities, cv=folds)
            for each in estimators
        ]


def probe(codes: np.ndarray, labels: np.ndarray, identities: np.ndarray) -> float | None:
    """How well labels can be read from codes, (accuracy - chance) / (1 - chance).

    The balanced accuracy of logistic regression or of a small MLP, whichever is better, on identities that they were
    not fitted on.

    Args:
      codes: float `[n, D]`.
      labels: int `[n]`, below 0 where not known.
      identities: int `[n]`. Classes that fewer than `FOLDS` of them have cannot be judged, and are left out.

    Returns:
      1 if labels can be read without an error, 0 if no better than a guess, below 0 if worse; None if fewer than two
      classes are left.

    Raises:
      UserError: If scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import balanced_accuracy_score
        from sklearn.model_selection import StratifiedGroupKFold
        from sklearn.neural_network import MLPClassifier
    except ImportError as error:
        raise _needs_scikit_learn(error) from error
    codes, labels, identities = _subset(codes, labels, identities)
    values = [value for value in np.unique(labels) if value >= 0]
    values = [value for value in values if len(np.unique(identities[labels == value])) >= FOLDS]
    if len(values) < 2:
        return None
    kept = np.isin(labels, values)
    codes, labels, identities = codes[kept], labels[kept], identities[kept]
    estimators = (
        LogisticRegression(max_iter=PROBE_ITERATIONS),
        MLPClassifier(
            hidden_layer_sizes=(PROBE_UNITS,), learning_rate_init=1e-2, max_iter=PROBE_ITERATIONS, random_state=0
        ),
    )
    found = _predictions(estimators, StratifiedGroupKFold(FOLDS), codes, labels, identities)
    with warnings.catch_warnings(action="ignore"):
        accuracy = max(balanced_accuracy_score(labels, each) for each in found)
    chance = 1 / len(values)
    return float((accuracy - chance) / (1 - chance))


def explained(codes: np.ndarray, values: np.ndarray, identities: np.ndarray) -> float | None:
    """How well numbers can be read from codes: the coefficient of determination R^2.

    Of ridge regression or of a small MLP, whichever is better, on identities that they were not fitted on.

    Args:
      codes: float `[n, D]`.
      values: float `[n]` or `[n, V]`, NaN where not known; the mean over V.
      identities: int `[n]`.

    Returns:
      1 if the numbers can be read without an error, 0 if no better than their mean, below 0 if worse; None if they
      are all the same, or known of fewer than `FOLDS` identities.

    Raises:
      UserError: If scikit-learn is not installed.
    """
    try:
        from sklearn.compose import TransformedTargetRegressor
        from sklearn.linear_model import RidgeCV
        from sklearn.metrics import r2_score
        from sklearn.model_selection import GroupKFold
        from sklearn.neural_network import MLPRegressor
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise _needs_scikit_learn(error) from error
    network = MLPRegressor(
        hidden_layer_sizes=(PROBE_UNITS,), learning_rate_init=1e-2, max_iter=PROBE_ITERATIONS, random_state=0
    )
    estimators = (
        RidgeCV(alphas=np.logspace(-3, 3, 7)),
        TransformedTargetRegressor(network, transformer=StandardScaler()),
    )
    known = ~np.isnan(values.reshape(len(values), -1)).any(axis=1)
    codes, values, identities = _subset(codes[known], values[known], identities[known])
    if len(np.unique(identities)) < FOLDS or not np.ptp(values, axis=0).any():
        return None
    return max(
        float(r2_score(values, found))
        for found in _predictions(estimators, GroupKFold(FOLDS), codes, values, identities)
    )


def _needs_scikit_learn(error: ImportError) -> UserError:
    return UserError(f"Probes need scikit-learn ({error}); pip install -e '.[eval]'.")
