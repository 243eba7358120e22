"""Metrics of codes alone: what f and z hold, what they leak, and how they spread.

The functions of arrays are pure; each says what perfect codes get and what codes that know nothing get.
"""

from collections.abc import Callable, Container, Iterator
from typing import NamedTuple

import numpy as np

from ddr_tf.data.label_names import name_in_metrics
from ddr_tf.data.sequence_dataset import SequenceDataset
from ddr_tf.evaluation.held_out import Codes
from ddr_tf.evaluation.lazy import scikit_learn
from ddr_tf.evaluation.metric import Measurement
from ddr_tf.evaluation.probes import as_classes, as_numbers, explained, probe, probe_presence
from ddr_tf.evaluation.settings import STANDARD_NUM_FRAMES

ACTIVE_VARIANCE = 0.01  # a unit is active if the variance of its posterior mean is above


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


def retrieval(codes: np.ndarray) -> float:
    """How often the nearest code from another set of frames is that of the same identity.

    Args:
      codes: float `[S, 2, D]`, f of S identities from two disjoint sets of frames.

    Returns:
      Fraction of the first sets whose nearest second set, in Euclidean distance, is their own; chance is 1 / S.
    """
    first, second = codes[:, 0].astype(np.float64), codes[:, 1].astype(np.float64)
    nearest = scikit_learn().metrics.pairwise_distances_argmin(first, second)
    return float((nearest == np.arange(len(codes))).mean())


class _Rows(NamedTuple):
    """Codes of one kind, one a row: float `[n, D]`, and the sequence that each is of, int `[n]`."""

    codes: np.ndarray
    sequence: np.ndarray


def _as_rows(codes: Codes) -> tuple[_Rows, _Rows]:
    """F of each set of frames, and z of each frame."""
    num_sequences, _, num_frames, dynamic_dim = codes.dynamic.shape
    return (
        _Rows(codes.static.reshape(2 * num_sequences, -1), np.repeat(codes.sequence, 2)),
        _Rows(codes.dynamic.reshape(-1, dynamic_dim), np.repeat(codes.sequence, 2 * num_frames)),
    )


def measure_codes(
    codes: Codes, sequences: SequenceDataset, probe_iterations: int, probe_dynamic: bool = True
) -> dict[str, Measurement]:
    """Metrics that need no frames.

    Args:
      codes: A draw of codes.
      sequences: The dataset, for its labels.
      probe_iterations: Of each fit of a probe, at most.
      probe_dynamic: Whether labels are read from z, too.

    Returns:
      `static_consistency`, `order_dependence`, `active_units_*`, `static_retrieval_accuracy`; for each label of
      sequences `probe_static_to_*` and `leakage_dynamic_to_*`; for each label of frames `probe_dynamic_to_*` and
      `leakage_static_to_*`. They are `probe` of labels that are classes, and `explained` of numbers. As f does not
      depend on the order of its frames, what it can leak of them is how many have which class, or the mean of a
      number: that is what `leakage_static_to_*` explains. Where poses are shared, and N is `STANDARD_NUM_FRAMES` (for
      other N there would be others to tell apart), `dynamic_coherence`; `probe_dynamic_to_pose`: which of 2 N poses
      drawn at random a frame is in; `leakage_static_to_pose`: whether such a pose is among the frames of f, the mean
      over poses.
    """
    num_sequences, _, num_frames, _ = codes.dynamic.shape
    static, dynamic = _as_rows(codes)
    measurements = {
        "active_units_static": Measurement(active_units(codes.static[:, 0]), 0.0, static.codes.shape[-1]),
        "active_units_dynamic": Measurement(active_units(dynamic.codes), 0.0, dynamic.codes.shape[-1]),
        "static_consistency": Measurement(consistency(codes.static), 0.0, 1.0),
        "static_retrieval_accuracy": Measurement(retrieval(codes.static), 1 / num_sequences, 1.0),
        "order_dependence": Measurement(codes.order_dependence, ceiling=0.0),
    }
    read = dynamic if probe_dynamic else None
    readable = [*_static_labels(static, read, sequences, probe_iterations)]
    readable += _frame_labels(static, read, codes, sequences, probe_iterations)
    if sequences.shared_poses and num_frames == STANDARD_NUM_FRAMES:
        readable += _poses(static, dynamic, codes, probe_iterations)
    return measurements | {name: Measurement(value, 0.0, 1.0) for name, value in readable if value is not None}


def _by_kind(
    labels: dict[str, np.ndarray], classes: Container[str]
) -> Iterator[tuple[str, np.ndarray, Callable[..., float | None]]]:
    """Each label as classes or as numbers, with its name in metrics and the function that reads it from codes."""
    for selected, read in ((as_classes(labels), probe), (as_numbers(labels, classes), explained)):
        for name, values in selected.items():
            yield name_in_metrics(name), values, read


def _static_labels(
    static: _Rows, dynamic: _Rows | None, sequences: SequenceDataset, iterations: int
) -> Iterator[tuple[str, float | None]]:
    """What codes tell of the labels of sequences."""
    for name, labels, read in _by_kind(sequences.static_labels, sequences.label_names):
        yield f"probe_static_to_{name}", read(static.codes, labels[static.sequence], static.sequence, iterations)
        if dynamic is None:
            continue
        yield f"leakage_dynamic_to_{name}", read(dynamic.codes, labels[dynamic.sequence], dynamic.sequence, iterations)


def _frame_labels(
    static: _Rows, dynamic: _Rows | None, codes: Codes, sequences: SequenceDataset, iterations: int
) -> Iterator[tuple[str, float | None]]:
    """What codes tell of the labels of frames."""
    rows = sequences.rows(codes.sequence[:, None, None], codes.frame)
    for name, labels, read in _by_kind(sequences.frame_labels, sequences.label_names):
        if dynamic is not None:
            yield f"probe_dynamic_to_{name}", read(dynamic.codes, labels[rows].ravel(), dynamic.sequence, iterations)
        of_sets = labels[rows].reshape(len(static.codes), -1, 1)
        if read is probe:
            of_sets = np.where(of_sets < 0, np.nan, of_sets == np.arange(labels.max() + 1))
        of_sets = np.ma.masked_invalid(of_sets).mean(axis=1).filled(np.nan)
        yield f"leakage_static_to_{name}", explained(static.codes, of_sets, static.sequence, iterations)


def _poses(static: _Rows, dynamic: _Rows, codes: Codes, iterations: int) -> Iterator[tuple[str, float | None]]:
    """What codes tell of the poses that all sequences share."""
    num_sequences, _, num_frames, _ = codes.dynamic.shape
    order = codes.pose.reshape(num_sequences, -1).argsort(axis=1)
    by_pose = np.take_along_axis(codes.dynamic.reshape(*order.shape, -1), order[..., None], axis=1)
    yield "dynamic_coherence", consistency(by_pose.swapaxes(0, 1))
    yield "probe_dynamic_to_pose", probe(dynamic.codes, codes.pose.ravel(), dynamic.sequence, iterations)
    poses = codes.pose.reshape(2 * num_sequences, num_frames)
    present = (poses[:, None] == np.arange(2 * num_frames)[:, None]).any(axis=-1).astype(int)
    yield "leakage_static_to_pose", probe_presence(static.codes, present, static.sequence, iterations)
