"""Probes: how well labels can be read from codes of identities that the probe was not fitted on."""

import warnings
from collections.abc import Container, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ddr_tf.evaluation.lazy import scikit_learn

NUM_FOLDS = 5  # folds of the cross-validation, each with identities of its own
HIDDEN_UNITS = 64  # in the small MLP
LEARNING_RATE = 1e-2  # for its Adam
MAX_ITERATIONS = 200
MAX_ROWS = 1500  # codes that a probe is fitted and tested on, drawn at random; more change little and take minutes
MAX_CLASSES = 20  # values of a label that is treated as classes


def as_classes(labels: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    """The labels that are integers or booleans of at least 2 and at most `MAX_CLASSES` known values.

    Returns:
      name -> int64 `[n]`, numbers of the values in ascending order, -1 where not known; see `known`.
    """
    classes = {}
    for name, values in labels.items():
        values = np.asarray(values)
        if values.dtype.kind in "iub":
            is_known = known(values)
            distinct, numbers = np.unique(values[is_known], return_inverse=True)
            if 2 <= len(distinct) <= MAX_CLASSES:
                classes[name] = np.full(len(values), -1)
                classes[name][is_known] = numbers
    return classes


def known(values: np.ndarray) -> np.ndarray:
    """Where a label is known, bool `[n]`.

    Numbers are not known where they are NaN; integers where they are -1, if no other is below 0.
    """
    if values.dtype.kind == "f":
        return ~np.isnan(values)
    return values != -1 if values.size and values.min() == -1 else np.ones(values.shape, bool)


def as_numbers(labels: Mapping[str, ArrayLike], classes: Container[str] = ()) -> dict[str, np.ndarray]:
    """The labels that are real numbers, or integers of more than `MAX_CLASSES` known values, and not all the same.

    Args:
      labels: name -> `[n]`.
      classes: Names of those that are classes, however many.

    Returns:
      name -> float64 `[n]`, NaN where not known; see `known`.
    """
    numbers = {}
    for name, values in labels.items():
        values = np.asarray(values)
        if name in classes or values.dtype.kind not in "iuf":
            continue
        is_known = known(values)
        if len(np.unique(values[is_known])) > (1 if values.dtype.kind == "f" else MAX_CLASSES):
            numbers[name] = np.where(is_known, values, np.nan).astype(np.float64)
    return numbers


def left_out(labels: Mapping[str, np.ndarray], classes: Container[str]) -> dict[str, int]:
    """The labels that are classes, and more than `MAX_CLASSES`, which no probe reads: name -> how many."""
    counts = {name: len(np.unique(values[known(values)])) for name, values in labels.items() if name in classes}
    return {name: count for name, count in counts.items() if count > MAX_CLASSES}


def probe(
    codes: np.ndarray, labels: np.ndarray, identities: np.ndarray, max_iterations: int = MAX_ITERATIONS
) -> float | None:
    """How well classes can be read from codes, (accuracy - chance) / (1 - chance).

    The balanced accuracy of logistic regression or of a small MLP, whichever is better, on identities that they were
    not fitted on.

    Args:
      codes: float `[n, D]`.
      labels: int `[n]`, below 0 where not known.
      identities: int `[n]`. Classes that fewer than `NUM_FOLDS` of them have cannot be tested, and are left out.
      max_iterations: Of each fit.

    Returns:
      1 if labels can be read without an error, 0 if no better than a guess, below 0 if worse; None if fewer than two
      classes are left.
    """
    sklearn = scikit_learn()
    codes, labels, identities = _subset(codes, labels, identities)
    values = [value for value in np.unique(labels) if value >= 0]
    values = [value for value in values if len(np.unique(identities[labels == value])) >= NUM_FOLDS]
    if len(values) < 2:
        return None
    kept = np.isin(labels, values)
    codes, labels, identities = codes[kept], labels[kept], identities[kept]
    estimators = (
        sklearn.linear_model.LogisticRegression(max_iter=max_iterations),
        sklearn.neural_network.MLPClassifier(**_network_settings(max_iterations)),
    )
    folds = sklearn.model_selection.StratifiedGroupKFold(NUM_FOLDS)
    predictions = _predictions(estimators, folds, codes, labels, identities)
    accuracy = 0.0
    for predicted in predictions:
        with warnings.catch_warnings(action="ignore"):
            accuracy = max(accuracy, sklearn.metrics.balanced_accuracy_score(labels, predicted))
        if accuracy == 1:  # nothing is better
            break
    chance = 1 / len(values)
    return float((accuracy - chance) / (1 - chance))


def probe_presence(
    codes: np.ndarray, present: np.ndarray, identities: np.ndarray, max_iterations: int = MAX_ITERATIONS
) -> float | None:
    """How well it can be read from codes which of several things are present: the mean of `probe` over the things.

    One MLP reads all of them at once; logistic regression reads them one by one.

    Args:
      codes: float `[n, D]`.
      present: int `[n, K]`, 0 or 1.
      identities: int `[n]`.
      max_iterations: Of each fit.

    Returns:
      As of `probe`; None if something is present, or absent, in fewer than `NUM_FOLDS` identities.
    """
    sklearn = scikit_learn()
    codes, present, identities = _subset(codes, present, identities)
    for value in (0, 1):
        if any(len(np.unique(identities[column == value])) < NUM_FOLDS for column in present.T):
            return None
    estimators = (
        sklearn.multioutput.MultiOutputClassifier(sklearn.linear_model.LogisticRegression(max_iter=max_iterations)),
        sklearn.neural_network.MLPClassifier(**_network_settings(max_iterations)),
    )
    folds = sklearn.model_selection.GroupKFold(NUM_FOLDS)
    predictions = [*_predictions(estimators, folds, codes, present, identities)]
    accuracy = sklearn.metrics.balanced_accuracy_score
    # The better estimator of all things together: where it is chosen for each, noise is chosen, too.
    best = max(np.mean([*map(accuracy, present.T, predicted.T)]) for predicted in predictions)
    return float(2 * best - 1)


def explained(
    codes: np.ndarray, values: np.ndarray, identities: np.ndarray, max_iterations: int = MAX_ITERATIONS
) -> float | None:
    """How well numbers can be read from codes: the coefficient of determination R^2.

    Of ridge regression or of a small MLP, whichever is better, on identities that they were not fitted on.

    Args:
      codes: float `[n, D]`.
      values: float `[n]` or `[n, V]`, NaN where not known; the result is the mean over those of V that vary, as what is
        always the same is no feat to read.
      identities: int `[n]`.
      max_iterations: Of the MLP's fit.

    Returns:
      1 if the numbers can be read without an error, 0 if no better than their mean, below 0 if worse; None if they
      are all the same, or known of fewer than `NUM_FOLDS` identities.
    """
    sklearn = scikit_learn()
    known = ~np.isnan(values.reshape(len(values), -1)).any(axis=1)
    codes, values, identities = _subset(codes[known], values[known], identities[known])
    varies = np.ptp(values, axis=0) > 0
    if len(np.unique(identities)) < NUM_FOLDS or not varies.any():
        return None
    values = values[:, varies] if values.ndim > 1 else values
    estimators = (
        sklearn.linear_model.RidgeCV(alphas=np.logspace(-3, 3, 7)),
        sklearn.compose.TransformedTargetRegressor(
            sklearn.neural_network.MLPRegressor(**_network_settings(max_iterations)),
            transformer=sklearn.preprocessing.StandardScaler(),
        ),
    )
    folds = sklearn.model_selection.GroupKFold(NUM_FOLDS)
    predictions = _predictions(estimators, folds, codes, values, identities)
    return max(float(sklearn.metrics.r2_score(values, predicted)) for predicted in predictions)


def _network_settings(max_iterations: int) -> dict[str, Any]:
    return dict(
        hidden_layer_sizes=(HIDDEN_UNITS,),
        learning_rate_init=LEARNING_RATE,
        max_iter=max_iterations,
        random_state=0,
    )


def _subset(*arrays: np.ndarray) -> list[np.ndarray]:
    """The same `MAX_ROWS` rows of each array, or all."""
    chosen = np.sort(np.random.RandomState(0).permutation(len(arrays[0]))[:MAX_ROWS])
    return [array[chosen] for array in arrays]


def _predictions(
    estimators: tuple, folds: Any, codes: np.ndarray, targets: np.ndarray, identities: np.ndarray
) -> Iterator[np.ndarray]:
    """What each of several scikit-learn estimators, fitted when it is asked for, says of other identities."""
    sklearn = scikit_learn()
    for estimator in estimators:
        with warnings.catch_warnings(action="ignore"):  # that a fit could go on or that a fold lacks a class
            predicted = sklearn.model_selection.cross_val_predict(
                sklearn.pipeline.make_pipeline(sklearn.preprocessing.StandardScaler(), estimator),
                codes,
                targets,
                groups=identities,
                cv=folds,
                n_jobs=-1,
            )
        yield predicted
