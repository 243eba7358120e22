"""Reconstructions, and swaps beside the true frames: the identity of A in the pose of B."""

from collections.abc import Mapping

import numpy as np

from ddr_tf.data.sequence_dataset import SequenceDataset
from ddr_tf.evaluation.held_out import Swaps, transfer_prefix
from ddr_tf.evaluation.image_quality import best_of_truths, nearest, psnr, ssim
from ddr_tf.evaluation.metric import Measurement

SIMILARITIES = (("psnr", psnr, None), ("ssim", ssim, 1.0))  # name, function, ceiling


def swap_accuracies(
    sequences: SequenceDataset, swaps: Swaps, swapped: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """What swaps look like most, among the true frames of all identities in that pose, and of A in all poses.

    One frame of each pair is looked at. A pose is right if its true frame is pixel-identical to the right one.

    Args:
      sequences: A dataset with `static_labels` and `shared_poses`.
      swaps: The draw.
      swapped: transfer -> float32 `[P, N, H, W, C]`.

    Returns:
      transfer -> fractions: `identity`, `pose`, and one for each static label.
    """
    identities, poses = np.arange(sequences.num_sequences), np.arange(sequences.frame_counts.min())
    kinds = ("identity", "pose", *sequences.static_labels)
    right: dict[str, dict[str, list[bool]]] = {transfer: {kind: [] for kind in kinds} for transfer in swapped}
    pairs = zip(swaps.static_sequence, swaps.dynamic_sequence, swaps.frame[:, 0], strict=True)
    for pair, (a, b, frame) in enumerate(pairs):
        same_pose, same_identity = sequences.swap_truth(identities, b, frame), sequences.swap_truth(a, b, poses)
        images = np.stack([frames[pair, 0] for frames in swapped.values()])
        nearest_ones = zip(swapped, nearest(images, same_pose), nearest(images, same_identity), strict=True)
        for transfer, identity, pose in nearest_ones:
            right[transfer]["identity"].append(identity == a)
            for name, labels in sequences.static_labels.items():
                right[transfer][name].append(labels[identity] == labels[a])
            right[transfer]["pose"].append(np.array_equal(same_identity[pose], same_identity[frame]))
    return {
        transfer: {kind: float(np.mean(values)) for kind, values in kinds.items()} for transfer, kinds in right.items()
    }


def chance_of_accuracies(sequences: SequenceDataset) -> dict[str, float]:
    """Expected `swap_accuracies` of a guess drawn uniformly: one over the number of values."""
    if not sequences.shared_poses:
        return {}
    counts = {name: len(np.unique(labels)) for name, labels in sequences.static_labels.items()}
    counts |= {"identity": sequences.num_sequences, "pose": int(sequences.frame_counts.min())}
    return {name: 1 / count for name, count in counts.items()}


def measure_swaps(sequences: SequenceDataset, swaps: Swaps) -> dict[str, Measurement]:
    """Reconstructions, and swaps where the true frames are known: `swap_*` for z as it is, and the other transfers.

    Returns:
      PSNRs in dB and SSIMs, whose chance level is that of the frames of B as they are; accuracies as fractions where
      poses are shared, see `swap_accuracies`.
    """
    measurements = {
        "reconstruction_psnr": Measurement(float(psnr(swaps.reconstruction, swaps.source).mean())),
        "reconstruction_ssim": Measurement(float(ssim(swaps.reconstruction, swaps.source).mean()), ceiling=1.0),
    }
    if not swaps.truths:
        return measurements
    unchanged = {name: best_of_truths(measure, swaps.source, swaps.truths) for name, measure, _ in SIMILARITIES}
    chance = chance_of_accuracies(sequences)
    accuracies = swap_accuracies(sequences, swaps, swaps.swapped) if sequences.shared_poses else {}
    for transfer, swapped in swaps.swapped.items():
        prefix = transfer_prefix(transfer)
        for name, measure, ceiling in SIMILARITIES:
            value = best_of_truths(measure, swapped, swaps.truths)
            measurements[f"{prefix}_{name}"] = Measurement(value, unchanged[name], ceiling)
        for name, accuracy in accuracies.get(transfer, {}).items():
            measurements[f"{prefix}_{name}_accuracy"] = Measurement(accuracy, chance[name], 1.0)
    return measurements
