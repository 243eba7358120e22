"""The density of f that samples are drawn from, fitted after training.

The bound pulls q(f | x_1..N) towards p(f) = N(0, I), but the f of real sequences end up elsewhere: with other
variances, in clusters, along few directions. Where N(0, I) has most of its mass the decoder was never trained, and what
is drawn from it is a blur. So a density is fitted to q(f | x_1..N) of the training sequences once the model is trained.
It is ours, not the paper's. (Ghosh et al., "From Variational to Deterministic Autoencoders", 2020, fit a density after
training; Tomczak & Welling, "VAE with a VampPrior", 2018: the best prior of an encoder is the mean of its posteriors.)

What sequences show often combines parts that have nothing to do with each other, such as clothes and hair, and f is
then close to a sum of one vector for each part. Independent component analysis finds directions along which f is a sum
of independent numbers (Hyvarinen & Oja, "Independent Component Analysis: Algorithms and Applications", 2000). Numbers
that depend on each other all the same form a group (Cardoso, "Multidimensional Independent Component Analysis", 1998):

    f = offset + mixing s,    p(s) = product over groups g of p(s_g),    p(s_g) = a mixture of normals

With one group this is a mixture of normals over f, and with one normal it is a normal. The f of held-out sequences
choose among all of these. With several groups, samples combine the parts of different sequences anew.

What is fitted is the density of f ~ q(f | x_1..N), which the bound needs, and in which each f carries the noise of its
posterior. Codes of frames are means without it, and so are samples: they are drawn from the same density with the noise
taken off each normal.
"""

import dataclasses
import functools
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

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

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

tfb, tfd = tfp.bijectors, tfp.distributions

COMPONENTS = (1, 4, 16, 64)  # numbers of normals that are tried for a group, of equal and of different covariance
DEPENDENCES = (0.1, 0.2, 0.3, 0.5, np.inf)  # nats of mutual information from which numbers form a group; all are tried
MIN_SIGNAL = 1.0  # variance between sequences, over that of q(f | ..), of a direction that is not taken for noise
MAX_DIRECTIONS = 32  # that are analysed; the cost of the mutual information grows with their square
MIN_SEQUENCES_PER_DIRECTION = 4
NUM_DRAWS = 2  # of f from the posterior of each sequence, at least
MIN_DRAWS_PER_DIMENSION = 10  # of all; with fewer, covariances have directions in which nearly nothing is possible
MAX_ICA_STEPS = 300
MAX_REFINEMENTS = 3
MAX_CONDITION = 1e4  # of a change of directions
NEIGHBOURS = 5  # of the estimate of mutual information


class StaticPosteriors(NamedTuple):
    """q(f | x_1..N) of S sequences.

    Attributes:
      mean, stddev: float `[S, F]`.
    """

    mean: np.ndarray
    stddev: np.ndarray

    def draw(self, random: np.random.RandomState) -> np.ndarray:
        """As many f of each, D: float `[D S, F]`, first one of each, then another, and so on."""
        sequences, dimensions = self.mean.shape
        count = max(NUM_DRAWS, math.ceil(MIN_DRAWS_PER_DIMENSION * dimensions / sequences))
        return np.concatenate(self.mean + self.stddev * random.standard_normal((count, *self.mean.shape)))


@dataclasses.dataclass(frozen=True)
class StaticDensity:
    """The density of f; see the module.

    Attributes:
      offset: float32 `[F]`.
      mixing: float32 `[F, F]`, invertible.
      groups: The densities of s_1, s_2, .., whose numbers of dimensions add up to F.
      noise: The stddev of q(f | x_1..N), median over sequences: float32 `[F]`, positive; None: not known, as in files
        of before it was kept.
    """

    offset: np.ndarray
    mixing: np.ndarray
    groups: Sequence[NormalMixture]
    noise: np.ndarray | None = None

    def distribution(self) -> tfd.Distribution:
        """Of draws of q(f | x_1..N): batch shape [], event shape [F]."""
        independent = independent_mixtures(self.groups)
        mixing = tfb.ScaleMatvecLU(*tf.linalg.lu(tf.constant(self.mixing)))
        return tfd.TransformedDistribution(independent, tfb.Shift(tf.constant(self.offset))(mixing))

    @functools.cached_property
    def of_means(self) -> "StaticDensity":
        """The density of means of q(f | x_1..N); the same one where the noise of draws is not known."""
        if self.noise is None:
            return self
        unmixed = np.linalg.inv(self.mixing.astype(np.float64)) * self.noise
        ends = np.cumsum([group.means.shape[1] for group in self.groups])[:-1]
        parts = zip(self.groups, np.split(unmixed, ends), strict=True)
        return dataclasses.replace(self, groups=[group.without_noise(rows @ rows.T) for group, rows in parts])

    def save(self, path: Path) -> None:
        """Writes an `.npz` file, whole or not at all."""
        arrays = {
            f"{name}_{g}": array for g, group in enumerate(self.groups) for name, array in group._asdict().items()
        }
        arrays |= {} if self.noise is None else {"noise": self.noise}
        write_arrays(path, dict(offset=self.offset, mixing=self.mixing) | arrays)

    @classmethod
    def load(cls, path: Path) -> "StaticDensity":
        """Reads what `save` wrote.

        Raises:
          UserError: If the file cannot be read or is damaged.
        """
        with named_if_damaged(path, "f", "p(f)"):
            arrays = read_arrays(path)
            count = sum(name.startswith("weights_") for name in arrays)
            groups = [NormalMixture(*(arrays[f"{name}_{g}"] for name in NormalMixture._fields)) for g in range(count)]
            density = cls(arrays["offset"], arrays["mixing"], groups, arrays.get("noise"))
            size = sum(group.means.shape[1] for group in groups)
            of_groups = [expected for group in groups for expected in group.shapes()]
            check_shapes([(density.offset, (size,)), (density.mixing, (size, size)), *of_groups])
            check_noise(density.noise, size)
        return density


class _Fit(NamedTuple):
    """A density with the mixtures as scikit-learn has them.

    Attributes:
      mixing: `[F, F]`; see `StaticDensity`.
      mixtures: Of the groups, in the order of the columns of `mixing`.
      likelihood: Mean log-likelihood of held-out f, in nats.
    """

    mixing: np.ndarray
    mixtures: list["GaussianMixture"]
    likelihood: float

    @property
    def groups(self) -> list[np.ndarray]:
        """Numbers of the columns of `mixing` of each group."""
        sizes = [mixture.means_.shape[1] for mixture in self.mixtures]
        return np.split(np.arange(len(self.mixing)), np.cumsum(sizes)[:-1])


def fit_static_density(training: StaticPosteriors, held_out: StaticPosteriors, seed: int) -> StaticDensity:
    """Fits the density to f of training sequences, in the form under which f of held-out sequences are likeliest.

    Args:
      training: Of training sequences.
      held_out: Of held-out sequences, at least one.
      seed: Of the draws of f, and of where the fits start.
    """
    from threadpoolctl import threadpool_limits

    random = np.random.RandomState(seed & 0x7FFFFFFF)
    with threadpool_limits(1):  # the matrices are small; waiting for other threads takes longer than their help saves
        offset, mixing, num_directions = _independent_directions(training, random)
        num_noise = len(offset) - num_directions
        draws = tuple(posteriors.draw(random) - offset for posteriors in (training, held_out))
        numbers = np.linalg.solve(mixing, draws[0][: len(training.mean)].T).T[:, :num_directions]
        groupings = _groupings(numbers, len(offset))
        fits = [_fit_groups(mixing[:, np.concatenate(groups)], groups, num_noise, draws) for groups in groupings]
        best = max(fits, key=lambda fit: fit.likelihood)
        for _ in range(MAX_REFINEMENTS):
            turn = _own_directions(best, np.linalg.solve(best.mixing, draws[0].T).T)
            refined = _fit_groups(best.mixing @ turn, best.groups, num_noise, draws)
            if refined.likelihood <= best.likelihood:
                break
            best = refined
    groups = [NormalMixture.of(mixture) for mixture in best.mixtures]
    noise = np.median(training.stddev, axis=0)
    return StaticDensity(np.float32(offset), np.float32(best.mixing), groups, np.float32(noise))


def _independent_directions(
    training: StaticPosteriors, random: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray, int]:
    """Directions of f: first those along which sequences differ, as independent as can be, then those of noise.

    Returns:
      offset `[F]`, mixing `[F, F]`, and how many of its columns are not of noise.
    """
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    offset = training.mean.mean(axis=0)
    noise = np.sqrt(np.mean(np.square(training.stddev), axis=0))
    scaled = (training.mean - offset) / noise
    variances, directions = np.linalg.eigh(np.cov(scaled.T, ddof=0).reshape(len(offset), -1))
    directions = directions[:, ::-1].T  # rows, by falling variance
    count = min(int((variances > MIN_SIGNAL).sum()), MAX_DIRECTIONS, len(scaled) // MIN_SEQUENCES_PER_DIRECTION)
    if count > 1:
        analysis = FastICA(count, whiten="unit-variance", max_iter=MAX_ICA_STEPS, tol=1e-3, random_state=random)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # what it has by then is judged by held-out f
            analysis.fit(scaled @ directions[:count].T)
        directions[:count] = analysis.components_ @ directions[:count]
    return offset, np.linalg.inv(directions / noise), count


def _groupings(numbers: np.ndarray, total: int) -> list[list[np.ndarray]]:
    """Ways to divide `total` numbers into groups: those `[S, D]` by dependence, the rest in a group of its own."""
    from scipy.sparse.csgraph import connected_components
    from sklearn.feature_selection import mutual_info_regression

    count = numbers.shape[1]
    rest = [np.arange(count, total)] if count < total else []
    if not count:
        return [rest]
    dependence = np.zeros((count, count))
    if len(numbers) > NEIGHBOURS and count > 1:
        columns = [
            mutual_info_regression(numbers, column, n_neighbors=NEIGHBOURS, random_state=0) for column in numbers.T
        ]
        dependence = np.add(columns, np.transpose(columns)) / 2
    groupings = {}
    for threshold in (0.0, *DEPENDENCES):
        _, labels = connected_components(dependence >= threshold)
        groupings[tuple(labels)] = [np.flatnonzero(labels == label) for label in range(labels.max() + 1)] + rest
    return list(groupings.values())


def _fit_groups(
    mixing: np.ndarray, groups: list[np.ndarray], num_noise: int, draws: tuple[np.ndarray, np.ndarray]
) -> _Fit:
    """Fits a mixture to each group.

    Args:
      mixing: `[F, F]`, its columns in the order of the groups.
      groups: Only how many numbers each has matters.
      num_noise: How many numbers, the group that comes last, are of noise, and so a normal.
      draws: f of training and of held-out sequences, less the offset: `[n, F]` each.
    """
    ends = np.cumsum([len(group) for group in groups])[:-1]
    of_groups = list(zip(*(np.split(np.linalg.solve(mixing, codes.T).T, ends, axis=1) for codes in draws), strict=True))
    counts = [COMPONENTS] * len(groups)
    if num_noise:
        counts[-1] = (1,)
    fitted = [likeliest_mixture(*parts, count) for parts, count in zip(of_groups, counts, strict=True)]
    scores, mixtures = zip(*fitted, strict=True)
    return _Fit(mixing, list(mixtures), sum(scores) - np.linalg.slogdet(mixing)[1])


def _own_directions(fit: _Fit, numbers: np.ndarray) -> np.ndarray:
    """Turns the directions of each group to those along which the means of its normals differ.

    Independent component analysis finds directions from moments, which are known less well than where clusters are. The
    means of all groups' normals are estimated together, by a regression of s on which normals it is from.

    Args:
      fit: Says which normals.
      numbers: s of training sequences, `[n, F]`.

    Returns:
      `[F, F]`: the new directions as columns, in the coordinates of s.
    """
    groups = fit.groups
    labels = [mixture.predict(numbers[:, group]) for mixture, group in zip(fit.mixtures, groups, strict=True)]
    indicators = [np.eye(mixture.n_components)[label] for mixture, label in zip(fit.mixtures, labels, strict=True)]
    effects = np.linalg.lstsq(np.hstack(indicators), numbers - numbers.mean(axis=0))[0]
    of_groups = np.split(effects, np.cumsum([indicator.shape[1] for indicator in indicators])[:-1])
    turn = np.eye(numbers.shape[1])
    for group, indicator, means in zip(groups, indicators, of_groups, strict=True):
        counts = indicator.sum(axis=0)
        spread = np.sqrt(counts)[:, None] * (means - counts @ means / counts.sum())
        if np.linalg.matrix_rank(spread[:, group]) == len(group):  # otherwise the means lie in fewer dimensions
            turn[:, group] = np.linalg.svd(spread)[2][: len(group)].T
    return turn if np.linalg.cond(turn) < MAX_CONDITION else np.eye(len(turn))
