"""The density of z given f that samples are drawn from, fitted after training.

p(z | f) is one normal for each f. The z of real frames lie within it, but often on islands, one for each pose that
there is; between them the decoder was never trained, and what is drawn there shows two poses at once. Where sequences
share poses, a pose has nearly the same *place* u under p(z | f) = N(mu(f), diag sigma(f)^2) whatever f is. So a mixture
of normals is fitted to the places of frames of the training sequences once the model is trained:

    z = mu(f) + sigma(f) u,    p(u) = a mixture of normals

With one normal, that is close to p(z | f) again. The places of held-out frames choose how many there are. Samples are
drawn with the noise of q(z | x, f) taken off each normal, since codes of frames are means, too. It is ours, not the
paper's; for the sources see `static_density`.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from ddr_tf.model.densities import tfd
from ddr_tf.model.mixtures import (
    NormalMixture,
    check_noise,
    check_shapes,
    independent_mixtures,
    likeliest_mixture,
    named_if_damaged,
    read_arrays,
    write_arrays,
)

COMPONENTS = (1, 4, 16, 64, 256)  # numbers of normals that are tried
MAX_PLACES = 6_000  # that are fitted to; a fit of 256 normals to as many takes some seconds
MIN_STDDEV = 0.01  # of a normal, about, where that of p(u) is near 1


@dataclasses.dataclass(frozen=True)
class DynamicDensity:
    """The density of the place u of z under p(z | f); see the module.

    Attributes:
      mixture: Of Z numbers: of places of draws of q(z | x, f).
      noise: The stddev of such places, median over frames: float32 `[Z]`, positive; None: not known, as in files of
        before it was kept.
    """

    mixture: NormalMixture
    noise: np.ndarray | None = None

    @property
    def dynamic_dim(self) -> int:
        """Z."""
        return self.mixture.means.shape[1]

    def distribution(self) -> tfd.Distribution:
        """Of u: batch shape [], event shape [Z]."""
        return independent_mixtures([self.mixture])

    @functools.cached_property
    def of_means(self) -> "DynamicDensity":
        """The density of places of means of q(z | x, f); the same one where the noise of draws is not known."""
        if self.noise is None:
            return self
        return DynamicDensity(self.mixture.without_noise(np.diag(np.square(self.noise, dtype=np.float64))))

    def sample(self, shape: Sequence[int | tf.Tensor], seed: tf.Tensor) -> tf.Tensor:
        """Draws of u, the same for the same seed: float32 `[*shape, Z]`.

        `distribution` would draw from all normals for each of them, which takes as many times the memory.
        """
        weights, means, scales = map(tf.constant, self.mixture)
        seeds = tf.unstack(tf.random.split(seed, 2))
        count = tf.reduce_prod(tf.stack(shape))
        normals = tf.random.stateless_categorical(tf.math.log(weights)[None], count, seeds[0])[0]
        noise = tf.random.stateless_normal([count, self.dynamic_dim], seeds[1])
        places = tf.gather(means, normals) + tf.linalg.matvec(tf.gather(scales, normals), noise)
        return tf.reshape(places, [*shape, self.dynamic_dim])

    def save(self, path: Path) -> None:
        """Writes an `.npz` file, whole or not at all."""
        noise = {} if self.noise is None else {"noise": self.noise}
        write_arrays(path, self.mixture._asdict() | noise)

    @classmethod
    def load(cls, path: Path) -> "DynamicDensity":
        """Reads what `save` wrote.

        Raises:
          UserError: If the file cannot be read or is damaged.
        """
        with named_if_damaged(path, "z", "p(z | f)"):
            arrays = read_arrays(path)
            density = cls(NormalMixture(*(arrays[name] for name in NormalMixture._fields)), arrays.get("noise"))
            check_shapes(density.mixture.shapes())
            check_noise(density.noise, density.dynamic_dim)
        return density


def fit_dynamic_density(training: np.ndarray, held_out: np.ndarray, noise: np.ndarray, seed: int) -> DynamicDensity:
    """Fits the density to places of frames of training sequences.

    Args:
      training: float `[n, Z]`, places of at least two frames of training sequences.
      held_out: float `[R, Z]`, of held-out sequences, at least one.
      noise: float `[Z]`, the stddev of the place of a frame.
      seed: Of which places are fitted to, if there are more than `MAX_PLACES`.
    """
    from threadpoolctl import threadpool_limits

    random = np.random.RandomState(seed & 0x7FFFFFFF)
    training, held_out = (places[random.permutation(len(places))[:MAX_PLACES]] for places in (training, held_out))
    with threadpool_limits(1):  # the matrices are small; waiting for other threads takes longer than their help saves
        _, mixture = likeliest_mixture(training, held_out, COMPONENTS, covariances=("full",), min_stddev=MIN_STDDEV)
    return DynamicDensity(NormalMixture.of(mixture), noise.astype(np.float32))
