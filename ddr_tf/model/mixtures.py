"""Mixtures of normals, fitted by scikit-learn, as distributions of TFP; and the files that hold them."""

import contextlib
import itertools
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from ddr_tf import files
from ddr_tf.errors import UserError

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

tfb, tfd = tfp.bijectors, tfp.distributions

MIN_DRAWS_PER_NORMAL = 8
MIN_VARIANCE = 0.05  # of the noise, that a normal keeps when the noise is taken off; with none it would be a point
MAX_BYTES = 1_000_000_000  # of the parameters of a density in a file; with F = 1,000 they have a third of that


class _Categorical(tfd.Categorical):
    """A categorical of batch shape [G], whose draws are transposed as floats.

    oneDNN prints an error on processors without AVX-512 when whole numbers are transposed.
    """

    def _sample_n(self, n: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor:
        draws = tf.random.stateless_categorical(self.logits_parameter(), n, seed, dtype=self.dtype)
        return tf.cast(tf.transpose(tf.cast(draws, tf.float32)), self.dtype)


class NormalMixture(NamedTuple):
    """A mixture of K normals of full covariance over D numbers.

    Attributes:
      weights: float32 `[K]`, positive, of sum 1.
      means: float32 `[K, D]`.
      scales: float32 `[K, D, D]`, lower triangular; a covariance is scale scale^T.
    """

    weights: np.ndarray
    means: np.ndarray
    scales: np.ndarray

    @classmethod
    def of(cls, mixture: "GaussianMixture") -> "NormalMixture":
        """What scikit-learn has fitted."""
        count, dimensions = mixture.means_.shape
        scales = np.broadcast_to(np.linalg.cholesky(mixture.covariances_), (count, dimensions, dimensions))
        return cls(*(np.float32(parameter) for parameter in (mixture.weights_, mixture.means_, scales)))

    def shapes(self) -> list[tuple[np.ndarray, tuple[int, ...]]]:
        """Each parameter with the shape that it should have, for `check_shapes`."""
        count, dimensions = len(self.weights), self.means.shape[1]
        return list(zip(self, ((count,), (count, dimensions), (count, dimensions, dimensions)), strict=True))

    def without_noise(self, noise: np.ndarray) -> "NormalMixture":
        """The density of numbers of which this is the density with independent noise of covariance `[D, D]` added."""
        root = np.linalg.cholesky(noise)
        inverse = np.linalg.inv(root)
        # In these coordinates the noise is standard normal.
        variances, directions = np.linalg.eigh(inverse @ self.scales @ self.scales.swapaxes(1, 2) @ inverse.T)
        directions = root @ directions * np.sqrt(np.maximum(variances - 1, MIN_VARIANCE))[:, None]
        scales = np.linalg.cholesky(directions @ directions.swapaxes(1, 2))
        return self._replace(scales=scales.astype(np.float32))

    def padded(self, count: int) -> "NormalMixture":
        """The same density with this many components, those added of weight 0."""
        added = count - len(self.weights)
        last = (np.repeat(parameter[-1:], added, axis=0) for parameter in (self.means, self.scales))
        return NormalMixture(*map(np.concatenate, zip(self, (np.zeros(added, np.float32), *last), strict=True)))


def independent_mixtures(groups: Sequence[NormalMixture]) -> tfd.Distribution:
    """Independent mixtures, side by side: batch shape [], event shape [the sum of their D].

    Those of as many numbers D that follow one another are one distribution of TFP, since dozens would be a graph of
    megabytes.
    """
    return tfd.Blockwise(
        [_of_one_size(list(same)) for _, same in itertools.groupby(groups, key=lambda group: group.means.shape[1])]
    )


def _of_one_size(groups: list[NormalMixture]) -> tfd.Distribution:
    """G independent mixtures over D numbers each: batch shape [], event shape [G D]."""
    count, dimensions = max(len(group.weights) for group in groups), groups[0].means.shape[1]
    weights, means, scales = map(np.stack, zip(*(group.padded(count) for group in groups), strict=True))
    normals = tfd.MultivariateNormalTriL(tf.constant(means), tf.constant(scales))
    mixtures = tfd.MixtureSameFamily(_Categorical(probs=tf.constant(weights)), normals)
    flat = tfb.Reshape([len(groups) * dimensions], event_shape_in=[len(groups), dimensions])
    return tfd.TransformedDistribution(tfd.Independent(mixtures, reinterpreted_batch_ndims=1), flat)


def check_shapes(expected: Sequence[tuple[np.ndarray, tuple[int, ...]]]) -> None:
    """Raises ValueError unless each array is of that shape, of float32, and finite."""
    for array, shape in expected:
        if array.shape != shape or array.dtype != np.float32 or not np.isfinite(array).all():
            raise ValueError(f"{array.dtype} {list(array.shape)}, not finite float32 {list(shape)}")


def check_noise(noise: np.ndarray | None, size: int) -> None:
    """Raises ValueError unless stddevs of noise, where there are any, are positive float32 `[size]`."""
    if noise is not None:
        check_shapes([(noise, (size,))])
        if (noise <= 0).any():
            raise ValueError("noise that is not positive")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an `.npz` file, whole or not at all."""
    with files.replaced(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an `.npz` file; raises what it likes if it is damaged, as NumPy and zipfile do."""
    with files.open_regular(path) as file:
        if not zipfile.is_zipfile(file):  # NumPy would take it for a pickle, and advise to trust it
            raise ValueError("it is no archive of arrays")
        file.seek(0)
        with np.load(file) as arrays:
            if sum(entry.file_size for entry in arrays.zip.infolist()) > MAX_BYTES:
                raise ValueError(f"unpacked it has more than {MAX_BYTES:,} bytes")
            return dict(arrays)


@contextlib.contextmanager
def named_if_damaged(path: Path, code: str, prior: str) -> Iterator[None]:
    """A block that reads a density from a file; its errors become a UserError that names the file.

    Args:
      path: The file.
      code: What it is the density of: f or z.
      prior: What samples of that are drawn from without the file.
    """
    try:
        yield
    except Exception as error:  # NumPy and zipfile raise almost anything for a damaged file
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(
            f"The density of {code} in {path} cannot be read ({reason}); bring it back from a copy, or remove it, and "
            f"{code} of samples is drawn from {prior}."
        ) from error


def likeliest_mixture(
    training: np.ndarray,
    held_out: np.ndarray,
    counts: Sequence[int],
    covariances: Sequence[str] = ("full", "tied"),
    min_stddev: float = 1e-3,
) -> tuple[float, "GaussianMixture"]:
    """The mixture under which held-out draws `[R, D]` are likeliest, and their mean log-likelihood.

    Args:
      training: `[n, D]`.
      held_out: `[R, D]`.
      counts: Numbers of normals to try, in ascending order, for as long as more are better.
      covariances: Kinds to try, as scikit-learn names them.
      min_stddev: Of each normal, about.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    candidates: list[tuple[float, GaussianMixture]] = []
    for count in counts:
        if count > 1 and count * MIN_DRAWS_PER_NORMAL > len(training):
            break
        of_count = []
        for covariance in covariances if count > 1 else ("full",):
            mixture = GaussianMixture(count, covariance_type=covariance, reg_covar=min_stddev**2, random_state=0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                mixture.fit(training)
            of_count.append((mixture.score(held_out), mixture))
        candidates += of_count
        if max(of_count, key=_score) is not max(candidates, key=_score):
            break
    return max(candidates, key=_score)


def _score(candidate: tuple[float, "GaussianMixture"]) -> float:
    return candidate[0]
