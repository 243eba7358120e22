"""A model -> its plots for papers, each with a caption: what is drawn, of held-out sequences that a seed selects.

`PLOTS` names them, `write_all` writes them.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ddr_tf import files
from ddr_tf.data.sequence_dataset import HELD_OUT, TRAIN, SequenceDataset
from ddr_tf.errors import UserError
from ddr_tf.evaluation.held_out import fetch
from ddr_tf.model.ddr import as_float
from ddr_tf.model.densities import tfd
from ddr_tf.pictures import contact_sheets, plots
from ddr_tf.pictures.selection import NUM_SHOWN, NUM_STATIC_FRAMES, LeftOutError, Selection

NUM_PLANES = 3  # identities whose dynamic plane is drawn
NUM_SAMPLES = 12  # z of each sampled f
PATH_STEPS = 9  # frames of an interpolation
GIF_IDENTITIES, GIF_STEPS = 3, 12  # identities side by side; frames from one stop to the next
MAX_PANELS = 9  # labels in the scatter
MIN_TIMELINE = 8  # frames of a sequence that has a timeline
NUM_EXTREMES = 4  # frames at the maxima of a timeline, and as many at its minima
CELLS = 32  # a side of the plane of the densities
NUM_PRIORS, PRIOR_FRAMES = 4, 256  # sequences whose own p(z | f) is drawn, and the most of their z


class Plot(NamedTuple):
    """A plot as matplotlib's figure, what is to be said under it, and its animations: name -> uint8 `[T, H, W, 3]`."""

    figure: plots.Figure
    caption: str
    animations: dict[str, np.ndarray]


def straight_path(stops: np.ndarray, steps: int) -> np.ndarray:
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
    """From stop to stop and back to the first, slower near stops: float `[K, D]` -> float32 `[K * GIF_STEPS, D]`."""
    ease = (1 - np.cos(np.pi * np.arange(GIF_STEPS) / GIF_STEPS)) / 2
    following = np.roll(stops, -1, axis=0)
    trip = stops[:, None] + ease[:, None] * (following - stops)[:, None]
    return trip.reshape(-1, stops.shape[-1]).astype(np.float32)


def _need_two(selection: Selection) -> None:
    if len(selection.shown) < 2:
        raise LeftOutError("it needs two held-out sequences, and there is one")


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


def _of_dimensions(selection: Selection) -> str:
    if selection.model.dynamic_dim == 2:
        return ""
    return f" z has {selection.model.dynamic_dim} dimensions; these two differ most between frames."


def dynamic_plane(selection: Selection) -> Plot:
    """The paper's picture of the dynamic plane: f fixed, z on a grid, decoded, for several identities."""
    codes = {name: value[:NUM_PLANES] for name, value in selection.shown_codes.items()}
    dimensions = selection.dimensions
    reach = np.linspace(-contact_sheets.PLANE_REACH, contact_sheets.PLANE_REACH, contact_sheets.PLANE_STEPS)
    mean, stddev = (np.take(codes[name].numpy(), dimensions, axis=1) for name in ("prior_mean", "prior_stddev"))
    figure = plots.draw_planes(
        contact_sheets.plane_frames(selection.model, codes, *dimensions),
        selection.real[:NUM_PLANES],
        [selection.name(number) for number in selection.shown[:NUM_PLANES]],
        mean[..., None] + stddev[..., None] * reach,
        dimensions,
    )
    caption = (
        f"The dynamic plane of {len(mean)} held-out sequences: f fixed to the posterior mean of the "
        f"{NUM_STATIC_FRAMES} real frames above, z on a grid over the mean ± {contact_sheets.PLANE_REACH:g} standard "
        "deviations of p(z | f), decoded. The numbers on the axes are z, so they show how p(z | f) differs between "
        "identities."
    )
    if selection.model.dynamic_dim > 2:
        caption += _of_dimensions(selection) + " The others are at the mean."
    return Plot(figure, caption, {})


def timeline(selection: Selection) -> Plot:
    """The paper's timeline: a dimension of z along a sequence in its own order, with the frames at its extremes."""
    sequences = selection.sequences
    if not sequences.ordered:
        raise LeftOutError(f"the frames of {sequences.name} are in no order that means something")
    number = next((number for number in selection.order if sequences.frame_counts[number] >= MIN_TIMELINE), None)
    if number is None:
        raise LeftOutError(f"no held-out sequence has {MIN_TIMELINE} frames")
    codes = selection.encode(number)
    count, frame = sequences.frame_counts[number], codes.frame
    dimension = int(np.argmax(codes.spread))
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
    spacing = "" if len(frame) == count else f" One frame in {frame[1]} is drawn."
    caption = (
        f"z_{dimension + 1}, the dimension that varies most, along the {count} frames of the held-out sequence "
        f"{sequences.ids[number]}, in their own order, which training never sees.{spacing} Line and band: mean and "
        f"standard deviation of q(z | x, f), with f from {min(count, NUM_STATIC_FRAMES)} frames; "
        "grey: mean ± 2 standard deviations of p(z | f). Pictures: the real frames at the "
        "highest and lowest values, with their numbers."
    )
    return Plot(figure, caption, {})


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
    values = {name: np.asarray(labels)[owner] for name, labels in sequences.static_labels.items()}
    values = {name: np.asarray(labels)[rows] for name, labels in sequences.frame_labels.items()} | {
        name: of_sequences for name, of_sequences in values.items() if name not in sequences.frame_labels
    }
    labels = {name: plots.Label(known, sequences.label_names.get(name)) for name, known in values.items()}

    def num_known(label: plots.Label) -> int:
        classes = plots.classes(label)
        return len(np.unique(label.values[np.isfinite(label.values)]) if classes is None else classes[0])

    labels = {name: label for name, label in labels.items() if num_known(label) > 1}
    if labels:
        return labels
    numbers, place = np.unique(owner, return_inverse=True)
    return {"sequence": plots.Label(place, [sequences.ids[number] for number in numbers])}


def scatter(selection: Selection) -> Plot:
    """All sequences' z, coloured by each label."""
    first, second = selection.dimensions
    points = np.concatenate([codes.dynamic_mean for codes in selection.codes])[:, [first, second]]
    owner = np.concatenate([np.full(len(codes.frame), codes.sequence) for codes in selection.codes])
    frame = np.concatenate([codes.frame for codes in selection.codes])
    mixed = np.random.RandomState(0).permutation(len(points))  # in random order, so that no sequence covers another
    labels = labels_of(selection.sequences, owner[mixed], frame[mixed])
    shown = dict(list(labels.items())[:MAX_PANELS])
    caption = (
        f"Means of q(z | x, f) of {len(points)} frames of {len(selection.codes)} held-out sequences in one plane, "
        f"coloured by {', '.join(shown)}. What changes should be in order here, and what stays mixed."
    )
    if len(shown) < len(labels):
        caption += f" There are {len(labels)} labels; these are the first."
    return Plot(plots.draw_scatter(points[mixed], shown, (first, second)), caption + _of_dimensions(selection), {})


def nearest_truth(truths: Sequence[np.ndarray], decoded: np.ndarray) -> np.ndarray | None:
    """Of several right frames for each decoded one the nearest: uint8 and float `[..., H, W, C]` -> float in [0, 1]."""
    if not truths:
        return None
    scaled = np.stack(truths) / np.float32(255)
    error = np.square(scaled - decoded).mean(axis=(-3, -2, -1), keepdims=True)
    return np.take_along_axis(scaled, error.argmin(axis=0, keepdims=True), axis=0)[0]


def swaps(selection: Selection) -> Plot:
    """The swap matrix."""
    _need_two(selection)
    swapped = contact_sheets.swap_frames(selection.model, selection.shown_codes["static_mean"], selection.real[:, 0])
    a, b = np.meshgrid(selection.shown, selection.shown, indexing="ij")
    frame = np.broadcast_to(selection.shown_frame[:, 0], a.shape)
    truth = nearest_truth(selection.sequences.swap_truths(a, b, frame), swapped)
    caption = (
        "Swaps between held-out sequences: f of the real frame's sequence on the left of a row with z of the real "
        "frame on top of a column, which is the mean of q(z | x, f) given that f. On the diagonal are reconstructions."
    )
    if truth is not None:
        caption += " On the right are the true frames: that identity in that pose."
    return Plot(plots.draw_swaps(selection.real[:, 0], swapped, truth), caption, {})


def samples(selection: Selection) -> Plot:
    """Sequences that do not exist: f and z from the densities that samples are drawn from."""
    source = contact_sheets.sampled_from(selection.model)
    figure = plots.draw_samples(contact_sheets.sample_frames(selection.model, NUM_SHOWN, NUM_SAMPLES, selection.seed))
    caption = f"Samples of combinations that no sequence shows: each row has one f, and each frame a z; {source}."
    return Plot(figure, caption, {})


def _furthest(points: np.ndarray) -> tuple[int, int]:
    """The two points of `[N, D]` that are furthest from one another."""
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    first, second = np.unravel_index(distance.argmax(), distance.shape)
    return int(first), int(second)


def interpolations(selection: Selection) -> Plot:
    """From one f to another with z of a frame given that f, from one z to another with f fixed; also animated."""
    _need_two(selection)
    model, real = selection.model, selection.real
    static, dynamic, stddev = (
        selection.shown_codes[name].numpy() for name in ("static_mean", "dynamic_mean", "prior_stddev")
    )
    pairs = np.arange(len(static) // 2 * 2).reshape(-1, 2)
    rows = [
        contact_sheets.swap_frames(model, straight_path(static[pair], PATH_STEPS - 1), real[pair[0], :1])[:, 0]
        for pair in pairs
    ]
    far = [_furthest(dynamic[number] / stddev[number]) for number in range(len(pairs))]
    between = np.stack([straight_path(dynamic[number, list(ends)], PATH_STEPS - 1) for number, ends in enumerate(far)])
    columns = model.decode(static[: len(far)], between).numpy()
    ends = (
        np.stack([real[pair, 0] for pair in pairs]),
        np.stack([real[number, list(ends)] for number, ends in enumerate(far)]),
    )
    figure = plots.draw_interpolations(np.stack(rows), columns, ends)
    several, stops = static[:GIF_IDENTITIES], real[0, :GIF_IDENTITIES]
    caption = (
        "Interpolations on straight lines between codes of held-out sequences. Above: f from that of the real frame on "
        "the left to that of the one on the right, with z of the frame on the left, the mean of q(z | x, f) given the "
        "f of the path. Below: z from that of the frame on the left to that of the one on the right, two frames of one "
        f"sequence that are far apart, while f stays. interpolation_static.gif: {len(stops)} frames of one sequence "
        f"side by side while f goes through {len(several)} identities. interpolation_dynamic.gif: {len(several)} "
        f"identities side by side while z goes through these {len(stops)} frames."
    )
    return Plot(figure, caption, _interpolation_films(selection, several, stops))


def _interpolation_films(selection: Selection, static: np.ndarray, frames: np.ndarray) -> dict[str, np.ndarray]:
    """Round trips through several f `[S, F]`, and through z of several frames `[T, H, W, C]` with each f."""
    model = selection.model
    trips = np.stack([round_trip(stops) for stops in contact_sheets.dynamic_given(model, static, frames).numpy()])
    return {
        "interpolation_static": _film(contact_sheets.swap_frames(model, round_trip(static), frames).swapaxes(0, 1)),
        "interpolation_dynamic": _film(model.decode(static, trips).numpy()),
    }


def _film(frames: np.ndarray) -> np.ndarray:
    """Rows of frames float `[S, T, H, W, C]` side by side, enlarged: uint8 `[T, height, width, 3]`."""
    sheets = np.stack([contact_sheets.grid(row[None]) for row in frames.swapaxes(0, 1)])
    return sheets.repeat(2, axis=1).repeat(2, axis=2)


def prior(selection: Selection) -> Plot:
    """Where p(z | f) puts its mass against the aggregate posterior."""
    dimensions = selection.dimensions
    pick = functools.partial(np.take, indices=dimensions, axis=-1)
    means, stddevs = (
        np.concatenate([pick(getattr(codes, name)) for codes in selection.codes])
        for name in ("dynamic_mean", "dynamic_stddev")
    )
    prior_means, prior_stddevs = (
        np.stack([pick(getattr(codes, name)) for codes in selection.codes]) for name in ("prior_mean", "prior_stddev")
    )
    counts = np.array([len(codes.frame) for codes in selection.codes])
    weights = np.repeat(1 / counts, counts) / len(counts)  # the same total for each sequence
    centres, reach = np.concatenate([means, prior_means]), 3 * np.concatenate([stddevs, prior_stddevs])
    edges = np.linspace((centres - reach).min(axis=0), (centres + reach).max(axis=0), CELLS + 1, axis=-1)
    of_posterior = mass(means, stddevs, weights, edges)
    of_prior = mass(prior_means, prior_stddevs, np.full(len(counts), 1 / len(counts)), edges)
    identities = [
        (selection.name(codes.sequence), pick(codes.prior_mean), pick(codes.prior_stddev), pick(codes.dynamic_mean))
        for codes in (selection.encode(codes.sequence, PRIOR_FRAMES) for codes in selection.codes[:NUM_PRIORS])
    ]
    figure = plots.draw_prior(of_posterior, of_prior, edges, identities, dimensions)
    place = (means - np.repeat(prior_means, counts, axis=0)) / np.repeat(prior_stddevs, counts, axis=0)
    beyond = float(weights @ (np.linalg.norm(place, axis=-1) > 2))
    caption = (
        f"Where p(z | f) puts its mass. Left: the aggregate posterior, the mean of q(z | x, f) over {len(means)} "
        f"frames of {len(counts)} held-out sequences. Middle: the mean of p(z | f) over the same sequences. f is at "
        f"its posterior mean. Both are shown as mass in {CELLS} x {CELLS} cells, of which they share "
        f"{np.minimum(of_posterior, of_prior).sum():.2f} (1: the same distribution; frames are few for so many cells, "
        "so a little less is to be expected). Right: single sequences, with p(z | f) at one and two standard "
        f"deviations and z of their frames. Of all z, {beyond:.0%} lie beyond the outer ring of their own sequence (of "
        f"a normal: {np.exp(-2):.0%})."
    )
    return Plot(figure, caption + _of_dimensions(selection), {})


def training(selection: Selection) -> Plot:
    """Training curves, from `metrics.jsonl`."""
    if selection.metrics is None:
        raise LeftOutError("an exported model does not keep the metrics of its training")
    for split in (TRAIN, HELD_OUT):
        if not any(line["split"] == split for line in selection.metrics):
            raise LeftOutError(
                f"metrics.jsonl has no line of {split} metrics (train.log_every was larger than train.steps)"
            )
    caption = (
        "The bound and its parts in nats a frame, in training (means over the steps between two points; one sample) "
        "and on held-out sequences. Reconstruction is shown as what it exceeds the entropy of the pixels by, which no "
        "model can go below. Dotted: where the weight of the KL terms reaches 1."
    )
    return Plot(plots.draw_training(selection.metrics), caption, {})


PLOTS: dict[str, Callable[[Selection], Plot]] = {
    "dynamic_plane": dynamic_plane,
    "timeline": timeline,
    "scatter": scatter,
    "swaps": swaps,
    "samples": samples,
    "interpolations": interpolations,
    "prior": prior,
    "training": training,
}


def write_all(
    selection: Selection, folder: Path, dpi: int, progress: Callable[[str], None] = lambda _: None
) -> list[Path]:
    """Draws all `PLOTS` into a folder: a PNG and a PDF each, GIFs, and `captions.md`.

    Args:
      selection: What to draw from.
      folder: Made if it does not exist.
      dpi: Of the PNGs, dots an inch.
      progress: Called with a line about every file, and about every plot that is left out.

    Returns:
      The files.

    Raises:
      UserError: If the folder cannot be written.
    """
    written: list[Path] = []
    captions = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, draw in PLOTS.items():
            try:
                plot, paths = _draw_and_save(draw, selection, folder / name, dpi)
            except LeftOutError as reason:
                progress(f"{name} is left out: {reason}")
                continue
            captions.append(f"**{name}** {plot.caption}\n")
            for file in paths:
                progress(str(file))
            written += paths
        written.append(folder / "captions.md")
        files.write_text(written[-1], "\n".join(captions))
    except OSError as error:
        raise UserError(f"The pictures cannot be written to {folder} ({error}).") from error
    progress(str(written[-1]))
    return written


def _draw_and_save(
    draw: Callable[[Selection], Plot], selection: Selection, stem: Path, dpi: int
) -> tuple[Plot, list[Path]]:
    """A plot, and its files: `<stem>.png`, `<stem>.pdf`, and the animations beside them."""
    with plots.style():
        plot = draw(selection)
        paths = plots.save_plot(plot.figure, stem, dpi)
    for name, frames in plot.animations.items():
        paths.append(stem.parent / f"{name}.gif")
        plots.save_gif(frames, paths[-1])
    return plot, paths
