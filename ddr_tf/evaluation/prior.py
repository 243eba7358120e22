"""Metrics of what z ~ p(z | f) decodes to."""

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from ddr_tf.data.sequence_dataset import HELD_OUT, SequenceDataset
from ddr_tf.evaluation.held_out import draw_frame_numbers, fetch
from ddr_tf.evaluation.image_quality import nearest, psnr
from ddr_tf.evaluation.interfaces import DensityModel
from ddr_tf.evaluation.metric import Measurement
from ddr_tf.model.ddr import as_float
from ddr_tf.model.densities import diagonal_normal


def coverage(drawn: ArrayLike, num_classes: int) -> float:
    """Entropy of how often each class was drawn, over that of the uniform distribution.

    Args:
      drawn: int `[n]`, 0 to num_classes - 1.
      num_classes: At least 2.

    Returns:
      1 if all were drawn equally often, 0 if only one was.
    """
    from scipy.stats import entropy

    return float(entropy(np.bincount(drawn, minlength=num_classes)) / np.log(num_classes))


def measure_prior(
    model: DensityModel,
    sequences: SequenceDataset,
    seed: int,
    num_frames: int,
    num_sequences: int = 16,
    num_samples: int = 64,
) -> dict[str, Measurement]:
    """What z ~ p(z | f) decodes to, beside the true frames of the identities, f being of held-out sequences.

    Args:
      model: A model.
      sequences: A dataset with `shared_poses`.
      seed: Of sequences, frames and z.
      num_frames: N.
      num_sequences: How many f.
      num_samples: How many z for each.

    Returns:
      `prior_pose_coverage`: evenness of the poses that are nearest, see `coverage`, its ceiling that of as many true
      frames in poses drawn uniformly; `prior_sample_psnr`: to the nearest, in dB.
    """
    random = np.random.RandomState(seed)
    chosen = random.choice(sequences.splits[HELD_OUT], num_sequences)
    poses = np.arange(sequences.frame_counts.min())
    codes = model.encode(fetch(sequences, chosen, draw_frame_numbers(random, sequences, chosen, num_frames)))
    prior = diagonal_normal(codes["prior_mean"], codes["prior_stddev"])
    dynamic = tf.transpose(prior.sample(num_samples, seed=[seed, 0]), [1, 0, 2])
    sampled, uniform, similarities = [], [], []
    for place, number in enumerate(chosen):
        images = np.asarray(model.decode(codes["static_mean"][place, None], dynamic[place, None]))[0]
        truths = as_float(fetch(sequences, np.array([number]), poses[None]))[0].numpy()
        sampled.append(nearest(images, truths))
        uniform.append(nearest(truths[random.choice(poses, num_samples)], truths))
        similarities.append(psnr(images, truths[sampled[-1]]))
    covered, ceiling = (coverage(np.concatenate(drawn), len(poses)) for drawn in (sampled, uniform))
    return {
        "prior_pose_coverage": Measurement(covered, 0.0, ceiling),
        "prior_sample_psnr": Measurement(float(np.mean(similarities))),
    }
