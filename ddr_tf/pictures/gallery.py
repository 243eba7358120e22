"""A run -> its figures for papers, each with a caption: what is drawn, on held-out sequences that a seed draws.

`FIGURES` names them, `write_all` writes them. Codes are posterior means, z and p(z | f) at the mean of f, so for one
seed everything is deterministic.
"""

import functools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ddr_tf.data.sequence_dataset import HELD_OUT, TRAIN, SequenceDataset
from ddr_tf.errors import UserError
from ddr_tf.evaluation.held_out import draw_frame_numbers, fetch
from ddr_tf.model.ddr import DDR, as_float
from ddr_tf.model.densities import tfd
from ddr_tf.pictures import contact_sheets, plots

NUM_SHOWN = 6  # sequences in the figures of frames
NUM_FRAMES = 8  # of each, which f is computed from
NUM_PLANES = 3  # of them, identities whose dynamic plane is drawn
NUM_SAMPLES = 12  # z of each sampled f
PATH_STEPS = 9  # frames of an interpolation
GIF_IDENTITIES, GIF_STEPS = 3, 12  # side by side; frames from one stop to the next
MAX_SEQUENCES = 256  # whose z are scattered
NUM_POINTS = 2048  # z in a scatter, about
MAX_PANELS = 9  # labels in the scatter
MIN_TIMELINE, MAX_TIMELINE = 8, 512  # frames of a timeline; of longer sequences every so manieth is taken
NUM_EXTREMES = 4  # frames at the maxima of a timeline, and as many at its minima
CELLS = 32  # a side of the plane of the densities
NUM_PRIORS, PRIOR_FRAMES = 4, 256  # sequences whose own p(z | f) is drawn, and the most of their z
CHUNK = 64  # frames that are encoded at once


class LeftOutError(Exception):
    """Why a figure makes no sense for this run."""


class Drawn(NamedTuple):
    """A figure, what is to be said under it, and animations that belong to it: name -> uint8 `[T, H, W, 3]`."""

    figure: plots.Figure
    caption: str
    animations: dict[str, np.ndarray]


class SequenceCodes(NamedTuple):
    """Codes of frames of one sequence.

    Attributes:
      sequence: Its number.
      frame: int `[N]`, numbers of the frames.
      dynamic_mean, dynamic_stddev: float32 `[N, Z]`, of q(z | x, f) at the mean of f.
      prior_mean, prior_stddev: float32 `[Z]`, of p(z | f) at the mean of f.
    """

    sequence: int
    frame: np.ndarray
    dynamic_mean: np.ndarray
    dynamic_stddev: np.ndarray
    prior_mean: np.ndarray
    prior_stddev: np.ndarray


def encode_sequence(
    model: DDR, sequences: SequenceDataset, number: int, static_frame: np.ndarray, frame: np.ndarray
) -> SequenceCodes:
    """Z of any number of frames of a sequence, with f from a few of them.

    Args:
      model: A model.
      sequences: A dataset.
      number: Of the sequence.
      static_frame: int `[M]`, numbers of the frames that f is computed from.
      frame: int `[N]`, of those whose z are wanted.
    """
    owner = np.array([number])
    codes = model.encode(fetch(sequences, owner, static_frame[None]))
    parts = []
    for start in range(0, len(frame), CHUNK):
        features = model.features(fetch(sequences, owner, frame[None, start : start + CHUNK]))
        posterior = model.dynamic_posterior(features, codes["static_mean"])
        parts.append((posterior.mean()[0].numpy(), posterior.stddev()[0].numpy()))
    means, stddevs = (np.concatenate(part) for part in zip(*parts, strict=True))
    prior = (codes[name][0].numpy() for name in ("prior_mean", "prior_stddev"))
    return SequenceCodes(int(number), frame, means, stddevs, *prior)


def path(stops: np.ndarray, steps: int) -> np.ndarray:
    """Straight lines from stop to stop.

    Args:
      stops: float `[K, D]`, at least two.
      steps: Points from one stop to the next, at least 1.

    Returns:
      float32 `[(K - 1) * steps + 1, D]`, all stops among them.
    """
    places = np.arange((len(stops) - 1) * steps + 1) / steps
    return np.stack([np.interp(places, np.arange(len(stops)), stop) for stop in stops.T], axis=-1).astype(np.float32)


def round_trip(stops: np.ndarray) -> np.ndarray:
    """From stop to stop and back to the first, slower near each: float `[K, D]` -> float32 `[K * GIF_STEPS, D]`."""
    ease = (1 - np.cos(np.pi * np.arange(GIF_STEPS) / GIF_STEPS)) / 2
    following = np.roll(stops, -1, axis=0)
    trip = stops[:, None] + ease[:, None] * (following - stops)[:, None]
    return trip.reshape(-1, stops.shape[-1]).astype(np.float32)


class Material:
    """What the figures are drawn from: a run, and frames and codes of held-out sequences that a seed draws.

    Attributes:
      order: int `[held out]`, numbers of the held-out sequences in the order in which they are drawn.
      shown: int `[S]`, the first of them, `NUM_SHOWN` at most.
      shown_frame: int `[S, N]`, numbers of frames of these.
      real: float32 `[S, N, H, W, C]` in [0, 1], the frames.
      shown_codes: What `model.encode` returns for them.
    """

    def __init__(self, model: DDR, sequences: SequenceDataset, metrics: Sequence[dict[str, Any]], seed: int) -> None:
        """Args: metrics: the lines of `metrics.jsonl`."""
        self.model, self.sequences, self.metrics, self.seed = model, sequences, metrics, seed & 0x7FFFFFFF
        random = np.random.RandomState(self.seed)
        self.order = random.permutation(sequences.splits[HELD_OUT])
        self.shown = self.order[:NUM_SHOWN]
        self.shown_frame = draw_frame_numbers(random, sequences, self.shown, NUM_FRAMES)
        frames = fetch(sequences, self.shown, self.shown_frame)
        self.real = as_float(frames).numpy()
        self.shown_codes = model.encode(frames)

    def name(self, number: int) -> str:
        """Of a sequence, as figures call it."""
        name = self.sequences.ids[number]
        return name if len(name) <= 16 else f"…{name[-15:]}"

    def encode(self, number: int, num_frames: int | None = None) -> SequenceCodes:
        """Codes of so many frames of a sequence, or all of them in their own order, with f from frames drawn alike.

        Of more than `MAX_TIMELINE` frames every so manieth is taken.
        """
        count = self.sequences.frame_counts[number]
        drawn = np.random.RandomState([self.seed, number]).permutation(count)
        frame = np.arange(0, count, -(-count // MAX_TIMELINE)) if num_frames is None else drawn[:num_frames]
        return encode_sequence(self.model, self.sequences, number, drawn[:NUM_FRAMES], frame)

    @functools.cached_property
    def codes(self) -> list[SequenceCodes]:
        """Of all held-out sequences, at most `MAX_SEQUENCES`."""
        chosen = self.order[:MAX_SEQUENCES]
        return [self.encode(number, max(NUM_FRAMES, NUM_POINTS // len(chosen))) for number in chosen]

    @functools.cached_property
    def dimensions(self) -> tuple[int, int]:
        """The two dimensions of z that differ most between the frames of a sequence, in stddevs of p(z | f).

        Raises:
          LeftOutError: If the model has but one.
        """
        if self.model.dynamic_dim < 2:
            raise LeftOutError("it needs two dynamic dimensions, and the model has one")
        spread = [_spread(codes) for codes in self.codes]
        first, second = np.sort(np.argsort(-np.mean(spread, axis=0), kind="stable")[:2])
        return int(first), int(second)


def _spread(codes: SequenceCodes) -> np.ndarray:
    """How much each dimension of z differs between frames, in stddevs of p(z | f): float `[Z]`."""
    return codes.dynamic_mean.std(axis=0) / codes.prior_stddev


def _need_two(material: Material) -> None:
    if len(material.shown) < 2:
        raise LeftOutError("it needs two held-out sequences, and there is one")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`.

    Raises:
      UserError: If it cannot be read.
    """
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}).") from error


def mass(means: np.ndarray, stddevs: np.ndarray, weights: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """What a mixture of diagonal normals puts into the cells of a plane; exact.

    Args:
      means: float `[K, 2]`.
      stddevs: float `[K, 2]`, positive.
      weights: float `[K]`, of sum 1.
      edges: float `[2, C + 1]`, of the cells in both dimensions, rising.

    Returns:
      float64 `[C, C]`, the second dimension first (as rows), of sum 1 less what lies outside.
    """
    normals = tfd.Normal(means[..., None].astype(np.float64), stddevs[..., None].astype(np.float64))
    across, up = np.diff(normals.cdf(np.asarray(edges, np.float64)).numpy(), axis=-1).swapaxes(0, 1)
    return np.einsum("k,ku,ka->ua", weights, up, across)


def _of_dimensions(material: Material) -> str:
    if material.model.dynamic_dim == 2:
        return ""
    return f" z has {material.model.dynamic_dim} dimensions; these two differ most between frames."


def dynamic_plane(material: Material) -> Drawn:
    """The paper's figure of the dynamic plane: f fixed, z on a grid, decoded, for several identities."""
    codes = {name: value[:NUM_PLANES] for name, value in material.shown_codes.items()}
    dimensions = material.dimensions
    reach = np.linspace(-contact_sheets.PLANE_REACH, contact_sheets.PLANE_REACH, contact_sheets.PLANE_STEPS)
    mean, stddev = (np.take(codes[name].numpy(), dimensions, axis=1) for name in ("prior_mean", "prior_stddev"))
    figure = plots.draw_planes(
        contact_sheets.plane_frames(material.model, codes, *dimensions),
        material.real[:NUM_PLANES],
        [material.name(number) for number in material.shown[:NUM_PLANES]],
        mean[..., None] + stddev[..., None] * reach,
        dimensions,
    )
    caption = (
        f"The dynamic plane of {len(mean)} held-out sequences: f fixed to the posterior mean of the "
        f"{NUM_FRAMES} real frames above, z on a grid over the mean ± {contact_sheets.PLANE_REACH:g} standard "
        "deviations of p(z | f), decoded. The numbers on the axes are z, so they show how p(z | f) differs between "
        "identities."
    )
    if material.model.dynamic_dim > 2:
        caption += _of_dimensions(material) + " The others are at the mean."
    return Drawn(figure, caption, {})


def timeline(material: Material) -> Drawn:
    """The paper's timeline: a dimension of z along a sequence in its own order, with the frames at its extremes."""
    sequences = material.sequences
    number = next((number for number in material.order if sequences.frame_counts[number] >= MIN_TIMELINE), None)
    if number is None:
        raise LeftOutError(f"no held-out sequence has {MIN_TIMELINE} frames")
    codes = material.encode(number)
    count, frame = sequences.frame_counts[number], codes.frame
    dimension = int(np.argmax(_spread(codes)))
    mean = codes.dynamic_mean[:, dimension]
    apart = max(1, len(frame) // 12)
    high, low = (plots.find_extremes(sign * mean, NUM_EXTREMES, apart) for sign in (1, -1))
    shown = as_float(fetch(sequences, np.array([number]), frame[None, np.concatenate([high, low])]))[0].numpy()
    figure = plots.draw_timeline(
        frame,
        mean,
        codes.dynamic_stddev[:, dimension],
        (codes.prior_mean[dimension], codes.prior_stddev[dimension]),
        dict(zip(high.tolist(), shown, strict=False)),
        dict(zip(low.tolist(), shown[len(high) :], strict=True)),
        dimension,
    )
    every = "" if len(frame) == count else f" One frame in {frame[1]} is drawn."
    caption = (
        f"z_{dimension + 1}, the dimension that varies most, along the {count} frames of the held-out sequence "
        f"{sequences.ids[number]}, in their own order, which training never sees.{every} Line and band: mean and "
        f"standard deviation of q(z | x, f), with f from {min(count, NUM_FRAMES)} frames; "
        "grey: mean ± 2 standard deviations of p(z | f). Pictures: the real frames at the "
        "highest and lowest values, with their numbers."
    )
    return Drawn(figure, caption, {})


def labels_of(sequences: SequenceDataset, owner: np.ndarray, frame: np.ndarray) -> dict[str, plots.Label]:
    """What is known about frames: labels of the frames, then of the sequences; or which sequence each is of.

    Args:
      sequences: A dataset.
      owner: int `[K]`, numbers of the sequences.
      frame: int `[K]`, numbers of the frames.

    Returns:
      name -> label, without those that have fewer than two known values.
    """
    rows = sequences.rows(owner, frame)
    values = {name: np.asarray(every)[rows] for name, every in sequences.frame_labels.items()}
    values |= {name: np.asarray(every)[owner] for name, every in sequences.static_labels.items() if name not in values}
    labels = {name: plots.Label(each, sequences.label_names.get(name)) for name, each in values.items()}

    def num_known(label: plots.Label) -> int:
        classes = plots.classes(label)
        return len(np.unique(label.values[np.isfinite(label.values)]) if classes is None else classes[0])

    labels = {name: label for name, label in labels.items() if num_known(label) > 1}
    if labels:
        return labels
    numbers, place = np.unique(owner, return_inverse=True)
    return {"sequence": plots.Label(place, [sequences.ids[number] for number in numbers])}


def scatter(material: Material) -> Drawn:
    """All sequences' z, coloured by each label."""
    first, second = material.dimensions
    points = np.concatenate([codes.dynamic_mean for codes in material.codes])[:, [first, second]]
    owner = np.concatenate([np.full(len(codes.frame), codes.sequence) for codes in material.codes])
    frame = np.concatenate([codes.frame for codes in material.codes])
    mixed = np.random.RandomState(0).permutation(len(points))  # so that no sequence lies on top of another
    labels = labels_of(material.sequences, owner[mixed], frame[mixed])
    shown = dict(list(labels.items())[:MAX_PANELS])
    caption = (
        f"Means of q(z | x, f) of {len(points)} frames of {len(material.codes)} held-out sequences in one plane, "
        f"coloured by {', '.join(shown)}. What changes should be in order here, and what stays mixed."
    )
    if len(shown) < len(labels):
        caption += f" There are {len(labels)} labels; these are the first."
    return Drawn(plots.draw_scatter(points[mixed], shown, (first, second)), caption + _of_dimensions(material), {})


def nearest_truth(truths: Sequence[np.ndarray], decoded: np.ndarray) -> np.ndarray | None:
    """Of several right frames for each decoded one the nearest: uint8 and float `[..., H, W, C]` -> float in [0, 1]."""
    if not truths:
        return None
    scaled = np.stack(truths) / np.float32(255)
    error = np.square(scaled - decoded).mean(axis=(-3, -2, -1), keepdims=True)
    return np.take_along_axis(scaled, error.argmin(axis=0, keepdims=True), axis=0)[0]


def swaps(material: Material) -> Drawn:
    """The swap matrix."""
    _need_two(material)
    swapped = contact_sheets.swap_frames(material.model, material.shown_codes["static_mean"], material.real[:, 0])
    a, b = np.meshgrid(material.shown, material.shown, indexing="ij")
    frame = np.broadcast_to(material.shown_frame[:, 0], a.shape)
    truth = nearest_truth(material.sequences.swap_truths(a, b, frame), swapped)
    caption = (
        "Swaps between held-out sequences: f of the real frame's sequence on the left of a row with z of the real "
        "frame on top of a column, which is the mean of q(z | x, f) given that f. On the diagonal are reconstructions."
    )
    if truth is not None:
        caption += " On the right are the true frames: that identity in that pose."
    return Drawn(plots.draw_swaps(material.real[:, 0], swapped, truth), caption, {})


def samples(material: Material) -> Drawn:
    """Unseen combinations: f from the prior, z from p(z | f)."""
    figure = plots.draw_samples(contact_sheets.sample_frames(material.model, NUM_SHOWN, NUM_SAMPLES, material.seed))
    caption = (
        "Samples of combinations that no sequence shows: each row has one f drawn from p(f), and a z drawn from "
        "p(z | f) for each frame."
    )
    return Drawn(figure, caption, {})


def _furthest(points: np.ndarray) -> tuple[int, int]:
    """The two points of `[N, D]` that are furthest from one another."""
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    first, second = np.unravel_index(distance.argmax(), distance.shape)
    return int(first), int(second)


def interpolations(material: Material) -> Drawn:
    """From one f to another with z of a frame given each, from one z to another with f fixed; also animated."""
    _need_two(material)
    model, real = material.model, material.real
    static, dynamic, stddev = (
        material.shown_codes[name].numpy() for name in ("static_mean", "dynamic_mean", "prior_stddev")
    )
    pairs = np.arange(len(static) // 2 * 2).reshape(-1, 2)
    rows = [
        contact_sheets.swap_frames(model, path(static[pair], PATH_STEPS - 1), real[pair[0], :1])[:, 0] for pair in pairs
    ]
    far = [_furthest(dynamic[number] / stddev[number]) for number in range(len(pairs))]
    between = np.stack([path(dynamic[number, list(ends)], PATH_STEPS - 1) for number, ends in enumerate(far)])
    columns = model.decode(static[: len(far)], between).numpy()
    ends = (
        np.stack([real[pair, 0] for pair in pairs]),
        np.stack([real[number, list(ends)] for number, ends in enumerate(far)]),
    )
    figure = plots.draw_interpolations(np.stack(rows), columns, ends)

    several, stops = static[:GIF_IDENTITIES], real[0, :GIF_IDENTITIES]
    trips = np.stack(
        [round_trip(stops_of_one) for stops_of_one in contact_sheets.dynamic_given(model, several, stops).numpy()]
    )
    animations = {
        "interpolation_static": contact_sheets.swap_frames(model, round_trip(several), stops).swapaxes(0, 1),
        "interpolation_dynamic": model.decode(several, trips).numpy(),
    }
    caption = (
        "Interpolations on straight lines between codes of held-out sequences. Above: f from that of the real frame on "
        "the left to that of the one on the right, with z of the frame on the left, the mean of q(z | x, f) given each "
        "f. Below: z from that of the frame on the left to that of the one on the right, two frames of one sequence "
        f"that are far apart, while f stays. interpolation_static.gif: {len(stops)} frames of one sequence side by "
        f"side while f goes through {len(several)} identities. interpolation_dynamic.gif: {len(several)} identities "
        f"side by side while z goes through these {len(stops)} frames."
    )
    return Drawn(figure, caption, {name: _film(frames) for name, frames in animations.items()})


def _film(frames: np.ndarray) -> np.ndarray:
    """Rows of frames float `[S, T, H, W, C]` side by side, enlarged: uint8 `[T, height, width, 3]`."""
    sheets = np.stack([contact_sheets.grid(each[None]) for each in frames.swapaxes(0, 1)])
    return sheets.repeat(2, axis=1).repeat(2, axis=2)


def prior(material: Material) -> Drawn:
    """Where p(z | f) puts its mass against the aggregate posterior."""
    dimensions = material.dimensions
    pick = functools.partial(np.take, indices=dimensions, axis=-1)
    means, stddevs = (
        np.concatenate([pick(getattr(codes, name)) for codes in material.codes])
        for name in ("dynamic_mean", "dynamic_stddev")
    )
    prior_means, prior_stddevs = (
        np.stack([pick(getattr(codes, name)) for codes in material.codes]) for name in ("prior_mean", "prior_stddev")
    )
    counts = np.array([len(codes.frame) for codes in material.codes])
    weights = np.repeat(1 / counts, counts) / len(counts)  # every sequence alike
    centres, reach = np.concatenate([means, prior_means]), 3 * np.concatenate([stddevs, prior_stddevs])
    edges = np.linspace((centres - reach).min(axis=0), (centres + reach).max(axis=0), CELLS + 1, axis=-1)
    of_posterior = mass(means, stddevs, weights, edges)
    of_prior = mass(prior_means, prior_stddevs, np.full(len(counts), 1 / len(counts)), edges)
    single = [material.encode(codes.sequence, PRIOR_FRAMES) for codes in material.codes[:NUM_PRIORS]]
    identities = [
        (material.name(codes.sequence), pick(codes.prior_mean), pick(codes.prior_stddev), pick(codes.dynamic_mean))
        for codes in single
    ]
    figure = plots.draw_prior(of_posterior, of_prior, edges, identities, dimensions)
    overlap = float(np.minimum(of_posterior, of_prior).sum())
    place = (means - np.repeat(prior_means, counts, axis=0)) / np.repeat(prior_stddevs, counts, axis=0)
    beyond = float(weights @ (np.linalg.norm(place, axis=-1) > 2))
    caption = (
        f"Where p(z | f) puts its mass. Left: the aggregate posterior, the mean of q(z | x, f) over {len(means)} "
        f"frames of {len(counts)} held-out sequences. Middle: the mean of p(z | f) over the same sequences. f is at "
        f"its posterior mean. Both are shown as mass in {CELLS} x {CELLS} cells, of which they share {overlap:.2f} "
        "(1: the same distribution; frames are few for so many cells, so a little less is to be expected). Right: "
        "p(z | f) of single sequences at one and two standard deviations, and z of their frames. Of all z, "
        f"{beyond:.0%} lie beyond the outer ring of their own sequence (of a normal: {np.exp(-2):.0%})."
    )
    return Drawn(figure, caption + _of_dimensions(material), {})


def training(material: Material) -> Drawn:
    """Training curves, from `metrics.jsonl`."""
    for split in (TRAIN, HELD_OUT):
        if not any(line["split"] == split for line in material.metrics):
            raise LeftOutError(
                f"metrics.jsonl has no line of {split} figures (train.log_every was larger than train.steps)"
            )
    caption = (
        "The bound and its parts in nats a frame, in training (means over the steps between two points; one sample) "
        "and on held-out sequences. Reconstruction is shown as what it exceeds the entropy of the pixels by, which no "
        "model can go below. Dotted: where the weight of the KL terms reaches 1."
    )
    return Drawn(plots.draw_training(material.metrics), caption, {})


FIGURES: dict[str, Callable[[Material], Drawn]] = {
    "dynamic_plane": dynamic_plane,
    "timeline": timeline,
    "scatter": scatter,
    "swaps": swaps,
    "samples": samples,
    "interpolations": interpolations,
    "prior": prior,
    "training": training,
}


def check_folder(folder: Path) -> None:
    """Raises UserError if a folder that is yet to be made cannot be written to."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        reason = "it cannot be written to" if existing.is_dir() else "it is not a folder"
        raise UserError(f"The figures cannot go to {folder}: {existing}: {reason}; give another --out.")


def write_all(
    material: Material, folder: Path, dpi: int, progress: Callable[[str], None] = lambda _: None
) -> list[Path]:
    """Draws all `FIGURES` into a folder: a PNG and a PDF each, GIFs, and `captions.md`.

    Args:
      material: What to draw from.
      folder: Made if it does not exist.
      dpi: Of the PNGs, dots an inch.
      progress: Called with a line about every file, and about every figure that is left out.

    Returns:
      The files.

    Raises:
      UserError: If the folder cannot be written.
    """
    written: list[Path] = []
    captions = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, draw in FIGURES.items():
            with plots.style():
                try:
                    drawn = draw(material)
                except LeftOutError as reason:
                    progress(f"{name} is left out: {reason}")
                    continue
                files = plots.save_figure(drawn.figure, folder / name, dpi)
            for film, frames in drawn.animations.items():
                files.append(folder / f"{film}.gif")
                plots.save_gif(frames, files[-1])
            captions.append(f"**{name}** {drawn.caption}\n")
            for file in files:
                progress(str(file))
            written += files
        written.append(folder / "captions.md")
        written[-1].write_text("\n".join(captions))
    except OSError as error:
        raise UserError(f"The figures cannot be written to {folder} ({error}).") from error
    progress(str(written[-1]))
    return written
