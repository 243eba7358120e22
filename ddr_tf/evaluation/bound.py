"""The bound on log p(x_1..N) and its parts."""

import numpy as np
import tensorflow as tf

from ddr_tf.data.sequence_dataset import SequenceDataset
from ddr_tf.evaluation.held_out import Codes, frame_sets
from ddr_tf.evaluation.interfaces import DensityModel
from ddr_tf.evaluation.metric import Measurement
from ddr_tf.model.bounds import as_float
from ddr_tf.model.elbo import bits_per_dim


def measure_bound(model: DensityModel, sequences: SequenceDataset, codes: Codes, seed: int) -> dict[str, Measurement]:
    """The ELBO and its parts, in nats a frame and in bits a pixel and channel.

    Args:
      model: A model.
      sequences: A dataset.
      codes: Say which frames: the first set of each sequence. f and z are sampled once.
      seed: Of the samples.

    Returns:
      `elbo_nats_per_frame`, `bits_per_dim`, `kl_static_nats_per_frame`, `kl_dynamic_nats_per_frame`;
      `reconstruction_excess_nats_per_frame` of a Bernoulli p(x | f, z), and `pixel_stddev` of a normal one, whose
      learned stddev makes an excess of half a nat a pixel and channel of any quality; and where a density was fitted
      to f `elbo_with_fitted_density_nats_per_frame`, the bound with it in place of p(f).
    """
    terms, weights, static, log_posteriors = [], [], [], []
    for start, frames in frame_sets(sequences, codes.sequence, codes.frame[:, :1]):
        batch, num_frames = frames.shape[:2]
        shapes = ([batch, model.static_dim], [batch, num_frames, model.dynamic_dim])
        noise = [tf.random.stateless_normal(shape, [seed, start + i]) for i, shape in enumerate(shapes)]
        sample = model.sample_posterior(as_float(frames), *noise)
        terms.append(model.bound_metrics(frames, model.terms_of(frames, sample)))
        weights.append(batch)
        static.append(sample.static)
        log_posteriors.append(sample.static_posterior.log_prob(sample.static))
    mean = {name: float(np.average([term[name] for term in terms], weights=weights)) for name in terms[0]}
    of_some = {}
    if model.static_density is not None:
        # The mean over f of log q(f | ..) - log of the density is their KL, which has no closed form for a mixture.
        log_density = model.static_density.distribution().log_prob(tf.concat(static, axis=0))
        fitted_kl = float(tf.reduce_mean(tf.concat(log_posteriors, axis=0) - log_density)) / codes.frame.shape[-1]
        fitted_elbo = mean["elbo"] + mean["kl_static"] - fitted_kl
        of_some["elbo_with_fitted_density_nats_per_frame"] = Measurement(fitted_elbo)
    if model.pixel_stddev is None:
        of_some["reconstruction_excess_nats_per_frame"] = Measurement(mean["reconstruction_excess"], ceiling=0.0)
    else:
        of_some["pixel_stddev"] = Measurement(float(model.pixel_stddev))
    return {
        "elbo_nats_per_frame": Measurement(mean["elbo"]),
        "bits_per_dim": Measurement(bits_per_dim(mean["elbo"], model.frame_shape)),
        "kl_static_nats_per_frame": Measurement(mean["kl_static"]),
        "kl_dynamic_nats_per_frame": Measurement(mean["kl_dynamic"]),
    } | of_some


def measure_importance_weighted_bound(
    model: DensityModel, sequences: SequenceDataset, codes: Codes, seed: int, num_sequences: int, num_samples: int
) -> dict[str, Measurement]:
    """A tighter bound on log p(x_1..N): the log of the mean of exp `DDR.log_weights` (Burda et al., 2016).

    Args:
      model: A model.
      sequences: A dataset.
      codes: Say which frames: the first set of each sequence.
      seed: Of the samples, and of the sequences.
      num_sequences: How many sequences, at most, drawn at random.
      num_samples: Samples of (f, z_1..N) of each.

    Returns:
      `importance_weighted_bound_nats_per_frame`, and `importance_weighted_gain_nats_per_frame`: how much more that is
      than the mean of the same samples, which is the ELBO.
    """
    drawn = np.sort(np.random.RandomState(seed).permutation(len(codes.sequence))[:num_sequences])
    chosen = codes.sequence[drawn], codes.frame[drawn, :1]
    num_frames = codes.frame.shape[-1]

    def log_weights(start: int, frames: tf.Tensor) -> tf.Tensor:
        shapes = ([len(frames), model.static_dim], [len(frames), num_frames, model.dynamic_dim])
        features, samples = model.features(frames), []
        static_posterior = model.static_posterior(features)
        for sample in range(start * num_samples, (start + 1) * num_samples):  # noise of other sequences is other noise
            noise = (tf.random.stateless_normal(shape, [seed, 2 * sample + i]) for i, shape in enumerate(shapes))
            samples.append(model.log_weights(frames, *noise, features, static_posterior))
        return tf.stack(samples)

    weights = tf.concat([log_weights(*part) for part in frame_sets(sequences, *chosen)], axis=1)
    bound = tf.reduce_logsumexp(weights, axis=0) - np.log(num_samples)
    gain = bound - tf.reduce_mean(weights, axis=0)
    return {
        f"importance_weighted_{name}_nats_per_frame": Measurement(float(tf.reduce_mean(value)) / num_frames)
        for name, value in (("bound", bound), ("gain", gain))
    }
