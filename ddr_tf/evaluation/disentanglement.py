"""DCI and MIG: how far single dimensions of [f, z] stand for single labels.

DCI is of Eastwood & Williams, "A Framework for the Quantitative Evaluation of Disentangled Representations", 2018; MIG
of Chen et al., "Isolating Sources of Disentanglement in Variational Autoencoders", 2018. Both want one dimension for
each factor, which this model does not ask of f: compare them between models of the same F.
"""

from collections.abc import Container, Mapping
from typing import NamedTuple

import numpy as np

from ddr_tf.data.sequence_dataset import SequenceDataset
from ddr_tf.evaluation.held_out import Codes
from ddr_tf.evaluation.lazy import scikit_learn
from ddr_tf.evaluation.metric import Measurement
from ddr_tf.evaluation.probes import as_classes, as_numbers

NUM_TREES = 20  # each tree may split by any dimension, so that a perfect one takes all the importance
TEST_FRACTION = 0.3  # of the identities
MAX_ROWS = 1500  # codes that the trees are fitted and tested on, drawn at random
NUM_BINS = 20  # that a dimension, or a label that is a number, is cut into for mutual information


class Dci(NamedTuple):
    """All are from 0 to 1, but informativeness may also be below 0.

    Attributes:
      disentanglement: 1 if each dimension helps to predict one label alone.
      completeness: 1 if each label is predicted from one dimension alone.
      informativeness: How well labels are predicted: mean of (accuracy - chance) / (1 - chance) of labels that are
        classes and R^2 of numbers, on identities that the trees were not fitted on.
    """

    disentanglement: float
    completeness: float
    informativeness: float


def dci(codes: np.ndarray, labels: Mapping[str, np.ndarray], identities: np.ndarray) -> Dci:
    """DCI, from the importances that random forests give to the dimensions of a code.

    Args:
      codes: float `[n, D]`, D at least 2.
      labels: At least two. name -> `[n]`: int, classes, all known; or float, numbers, all known.
      identities: int `[n]`; those that are tested on are not fitted on.
    """
    shown = np.random.RandomState(0).permutation(np.unique(identities))
    tested = np.isin(identities, shown[: max(1, round(TEST_FRACTION * len(shown)))])
    importances, scores = zip(*(_predict(codes, values, tested) for values in labels.values()), strict=True)
    # Of pure nodes, rounding may leave -1e-20 instead of 0, of which there is no logarithm.
    of_dimensions = np.stack(importances, axis=1).clip(0)
    return Dci(*disentanglement_and_completeness(of_dimensions), float(np.mean(scores)))


def _predict(codes: np.ndarray, values: np.ndarray, tested: np.ndarray) -> tuple[np.ndarray, float]:
    """Importances of the dimensions, float `[D]`, and the score on identities that were not fitted on."""
    sklearn = scikit_learn()
    are_numbers = values.dtype.kind == "f"
    kind = sklearn.ensemble.RandomForestRegressor if are_numbers else sklearn.ensemble.RandomForestClassifier
    forest = kind(n_estimators=NUM_TREES, max_features=None, random_state=0, n_jobs=-1)
    forest.fit(codes[~tested], values[~tested])
    # In one thread: several add up what the trees say in whatever order they end, so sums differ in the last digit.
    predicted, truth = forest.set_params(n_jobs=1).predict(codes[tested]), values[tested]
    if are_numbers:
        return forest.feature_importances_, float(sklearn.metrics.r2_score(truth, predicted))
    accuracy = np.mean([(predicted == truth)[truth == value].mean() for value in np.unique(truth)])
    chance = 1 / max(2, len(np.unique(values)))
    return forest.feature_importances_, float((accuracy - chance) / (1 - chance))


def disentanglement_and_completeness(importances: np.ndarray) -> tuple[float, float]:
    """Both as in Eastwood & Williams, Section 2: one less the entropy of rows, and of columns, weighted.

    Args:
      importances: float `[D, K]`, not negative, of D dimensions for K labels, both at least 2.
    """
    from scipy.stats import entropy

    def weighted(importances: np.ndarray) -> float:
        """Mean over rows, by their sums, of 1 - entropy over the largest possible."""
        weights = importances.sum(axis=1)
        rows = importances[weights > 0]
        if not len(rows):
            return 0.0
        concentration = 1 - entropy(rows, axis=1) / np.log(importances.shape[1])
        return float(np.average(concentration, weights=weights[weights > 0]))

    return weighted(importances), weighted(importances.T)


def mutual_information_gap(codes: np.ndarray, labels: Mapping[str, np.ndarray]) -> float:
    """Of each label, how much more the best dimension tells than the second best, over the label's entropy; the mean.

    Args:
      codes: float `[n, D]`, D at least 2.
      labels: At least one. name -> `[n]`: int, classes, all known; or float, numbers, all known.

    Returns:
      0 to 1: 1 if one dimension tells all of a label and the others nothing.
    """
    from scipy.stats import entropy

    mutual_information = scikit_learn().metrics.mutual_info_score
    binned = [_binned(dimension) for dimension in codes.T]
    gaps = []
    for values in labels.values():
        classes = _binned(values) if values.dtype.kind == "f" else values
        told = np.sort([mutual_information(classes, dimension) for dimension in binned])
        gaps.append((told[-1] - told[-2]) / entropy(np.unique(classes, return_counts=True)[1]))
    return float(np.mean(gaps))


def _binned(values: np.ndarray) -> np.ndarray:
    """Numbers cut into `NUM_BINS` of equal width: int `[n]`."""
    return np.digitize(values, np.histogram_bin_edges(values, NUM_BINS)[1:-1])


def measure_disentanglement(codes: Codes, sequences: SequenceDataset) -> dict[str, Measurement]:
    """DCI and MIG of [f, z] of each frame against the labels of its sequence and its own.

    Args:
      codes: A draw of codes.
      sequences: The dataset; labels that are not all known are left out.

    Returns:
      `dci_disentanglement`, `dci_completeness`, `dci_informativeness` and `mig`; nothing if there are fewer than two
      labels.
    """
    num_sequences, num_sets, num_frames, _ = codes.dynamic.shape
    static = np.broadcast_to(codes.static[:, :, None], (num_sequences, num_sets, num_frames, codes.static.shape[-1]))
    both = np.concatenate([static, codes.dynamic], axis=-1).reshape(num_sequences * num_sets * num_frames, -1)
    owner = np.repeat(codes.sequence, num_sets * num_frames)
    rows = sequences.rows(owner, codes.frame.ravel())
    classes = sequences.label_names
    labels = {name: values[owner] for name, values in _classes_and_numbers(sequences.static_labels, classes).items()}
    labels |= {name: values[rows] for name, values in _classes_and_numbers(sequences.frame_labels, classes).items()}
    labels = {name: values for name, values in labels.items() if _all_known(values)}
    if len(labels) < 2:
        return {}
    few = np.sort(np.random.RandomState(0).permutation(len(both))[:MAX_ROWS])
    scores = dci(both[few], {name: values[few] for name, values in labels.items()}, owner[few])
    measured = {f"dci_{name}": value for name, value in scores._asdict().items()}
    measured["mig"] = mutual_information_gap(both, labels)
    # Importances add up to 1 for each label, also where nothing can be predicted, so what codes that know nothing get
    # depends on their dimensions.
    unknown = ("dci_disentanglement", "dci_completeness")
    return {name: Measurement(value, None if name in unknown else 0.0, 1.0) for name, value in measured.items()}


def _classes_and_numbers(labels: Mapping[str, np.ndarray], classes: Container[str]) -> dict[str, np.ndarray]:
    return as_classes(labels) | as_numbers(labels, classes)


def _all_known(values: np.ndarray) -> bool:
    """Whether all of these values are known, and not all the same."""
    known = np.isfinite(values).all() if values.dtype.kind == "f" else (values >= 0).all()
    return bool(known) and len(np.unique(values)) > 1
