"""Reconstructions, and swaps beside the true frames: the identity of A in the pose of B."""

from collections.abc import Mapping

import numpy as np

from ddr_tf.data.label_names import name_in_metrics
from ddr_tf.data.sequence_dataset import SequenceDataset
from ddr_tf.evaluation.held_out import Swaps, fetch, transfer_prefix
from ddr_tf.evaluation.image_quality import best_of_truths, nearest, psnr, ssim
from ddr_tf.evaluation.metric import Measurement

SIMILARITIES = (("psnr", psnr, None), ("ssim", ssim, 1.0))  # name, function, ceiling


def swap_accuracies(
    sequences: SequenceDataset, swaps: Swaps, swapped: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """What swaps look like most, among the true frames of all identities in that pose, and among all frames of A.

    One frame of each pair is looked at. A pose is right if its true frame is pixel-identical to the right one.
    Identities that lack the pose are left out.

    Args:
      sequences: A dataset with `pose_numbers`, and perhaps `static_labels`.
      swaps: The draw.
      swapped: transfer -> float32 `[P, N, H, W, C]`.

    Returns:
      transfer -> fractions: `identity`, `pose`, and one for each static label.
    """
    classes = _static_classes(sequences)
    kinds = ("identity", "pose", *classes)
    right: dict[str, dict[str, list[bool]]] = {transfer: {kind: [] for kind in kinds} for transfer in swapped}
    pairs = zip(swaps.static_sequence, swaps.dynamic_sequence, swaps.frame[:, 0], strict=True)
    for pair, (a, b, frame) in enumerate(pairs):
        identities = _with_pose(sequences, b, frame)
        same_pose = sequences.swap_truth(identities, b, frame)
        same_identity = fetch(sequences, np.array([a]), np.arange(sequences.frame_counts[a])[None])[0].numpy()
        truth = same_pose[np.flatnonzero(identities == a)[0]]
        images = np.stack([frames[pair, 0] for frames in swapped.values()])
        nearest_ones = zip(swapped, nearest(images, same_pose), nearest(images, same_identity), strict=True)
        for transfer, place, pose in nearest_ones:
            right[transfer]["identity"].append(identities[place] == a)
            for name, labels in classes.items():
                right[transfer][name].append(labels[identities[place]] == labels[a])
            right[transfer]["pose"].append(np.array_equal(same_identity[pose], truth))
    return {
        transfer: {kind: float(np.mean(values)) for kind, values in kinds.items()} for transfer, kinds in right.items()
    }


def _static_classes(sequences: SequenceDataset) -> dict[str, np.ndarray]:
    """The labels of sequences that are classes, known of all of them, by their names in metrics."""
    labels = sequences.static_labels.items()
    return {name_in_metrics(name): values for name, values in labels if values.dtype.kind in "iu" and values.min() >= 0}


def _with_pose(sequences: SequenceDataset, dynamic_sequence: int, frame: int) -> np.ndarray:
    """Numbers of the sequences that have a frame in the pose of a frame of another: int `[n]`."""
    return np.flatnonzero(sequences.swap_frames(np.arange(sequences.num_sequences), dynamic_sequence, frame) >= 0)


def chance_of_accuracies(sequences: SequenceDataset, swaps: Swaps) -> dict[str, float]:
    """Expected `swap_accuracies` of a guess drawn uniformly: one over the number of values."""
    chance = {name: 1 / len(np.unique(labels)) for name, labels in _static_classes(sequences).items()}
    pairs = zip(swaps.dynamic_sequence, swaps.frame[:, 0], strict=True)
    chance["identity"] = float(np.mean([1 / len(_with_pose(sequences, b, frame)) for b, frame in pairs]))
    chance["pose"] = float(np.mean(1 / sequences.frame_counts[swaps.static_sequence]))
    return chance


def measure_swaps(sequences: SequenceDataset, swaps: Swaps) -> dict[str, Measurement]:
    """Reconstructions, and swaps where the true frames are known: `swap_*` for z as it is, and the other transfers.

    Returns:
      PSNRs in dB and SSIMs, whose chance level is that of the frames of B as they are, or for reconstructions that with
      z of another frame of B, if there is one. Accuracies as fractions where poses are known, see `swap_accuracies`.
    """
    measurements = {
        f"reconstruction_{name}": Measurement(
            float(measure(swaps.reconstruction, swaps.source).mean()),
            float(measure(swaps.other_dynamic, swaps.source).mean()) if swaps.frame.shape[1] > 1 else None,
            ceiling,
        )
        for name, measure, ceiling in SIMILARITIES
    }
    if not swaps.truths:
        return measurements
    unchanged = {name: best_of_truths(measure, swaps.source, swaps.truths) for name, measure, _ in SIMILARITIES}
    poses_known = sequences.pose_numbers is not None
    chance = chance_of_accuracies(sequences, swaps) if poses_known else {}
    accuracies = swap_accuracies(sequences, swaps, swaps.swapped) if poses_known else {}
    for transfer, swapped in swaps.swapped.items():
        prefix = transfer_prefix(transfer)
        for name, measure, ceiling in SIMILARITIES:
            value = best_of_truths(measure, swapped, swaps.truths)
            measurements[f"{prefix}_{name}"] = Measurement(value, unchanged[name], ceiling)
        for name, accuracy in accuracies.get(transfer, {}).items():
            measurements[f"{prefix}_{name}_accuracy"] = Measurement(accuracy, chance[name], 1.0)
    return measurements
