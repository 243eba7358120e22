"""Plots for papers: arrays -> matplotlib's figures -> PNG, PDF and GIF.

Frames are drawn pixel by pixel, colours can be told apart by the colour-blind, letters in PDFs are TrueType, and the
same plot gives the same bytes.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.patches import ConnectionPatch, Ellipse
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, MaxNLocator, ScalarFormatter
from PIL import Image
from scipy.signal import argrelextrema

from ddr_tf.data.sequence_dataset import HELD_OUT, TRAIN
from ddr_tf.pictures import contact_sheets, names

STYLE = {
    "font.family": names.FONT,
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # TrueType, which journals ask for
}
TEXT_WIDTH = 6.75  # inches, the text of two columns
CLASS_COLOURS = matplotlib.color_sequences["petroff10"]  # chosen for colour-blind readers
STYLES = ("-", "--", ":", "-.")  # of lines, where there are more than colours
SCALE = "viridis"  # for continuous labels, likewise
UNKNOWN = "0.8"  # grey of points without a label
LINE, BAND = "0.35", "0.88"  # greys
MAX_SHORT_WORD = 8  # letters of a legend beside which three panels have room
# Of a timeline, in inches: side of a picture, left margin, gap, height of the curve.
PICTURE_SIDE, TIMELINE_LEFT, TIMELINE_GAP, TIMELINE_HEIGHT = 0.85, 0.5, 0.3, 1.5
GIF_MILLISECONDS = 80  # of a frame


def style() -> AbstractContextManager:
    """The settings of matplotlib with which plots are drawn and saved."""
    return matplotlib.rc_context(STYLE)


def _axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes whose place is given in inches from the upper left corner."""
    across, down = figure.get_size_inches()
    return figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))


def _height(sheet: np.ndarray, width: float) -> float:
    return width * sheet.shape[0] / sheet.shape[1]


def _show(figure: Figure, sheet: np.ndarray, left: float, top: float, width: float) -> Axes:
    """Draws uint8 `[height, width, 3]` without a frame; the axes count its pixels."""
    axes = _axes(figure, left, top, width, _height(sheet, width))
    axes.imshow(sheet, aspect="auto")
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    return axes


def _middles(pixels: int, count: int) -> np.ndarray:
    """Where the frames of a row or column of `contact_sheets.grid` without wide gaps have their middles, in pixels."""
    pitch = (pixels - contact_sheets.GAP) / count
    return contact_sheets.GAP / 2 + pitch * (np.arange(count) + 0.5) - 0.5


def _symbol(dimension: int) -> str:
    return f"$z_{{{dimension + 1}}}$"


def draw_planes(
    planes: np.ndarray, real: np.ndarray, identities: Sequence[str], ticks: np.ndarray, dimensions: tuple[int, int]
) -> Figure:
    """The dynamic plane of several identities side by side, real frames of each above it.

    Args:
      planes: float `[S, R, R, H, W, C]` in [0, 1]; the second dimension of z falls from the first row to the last.
      real: float `[S, N, H, W, C]` in [0, 1].
      identities: Names of the S sequences.
      ticks: float `[S, 2, R]`, the values of both dimensions of z along the plane, rising.
      dimensions: Which dimensions of z they are.
    """
    left, gap, top = 0.42, 0.08, 0.22
    width = min((TEXT_WIDTH - len(planes) * (left + gap)) / len(planes), 2.6)
    strips, sheets = [contact_sheets.grid(row[None]) for row in real], [contact_sheets.grid(plane) for plane in planes]
    strip_height, height = _height(strips[0], width), _height(sheets[0], width)
    figure = Figure((len(planes) * (left + width + gap), top + strip_height + 0.1 + height + 0.42))
    for number, (strip, sheet) in enumerate(zip(strips, sheets, strict=True)):
        place = number * (left + width + gap) + left
        _show(figure, strip, place, top, width).set_title(
            f"{identities[number]}: real frames", fontsize=7, pad=2, loc="left"
        )
        axes = _show(figure, sheet, place, top + strip_height + 0.1, width)
        rows, columns = planes.shape[1:3]
        chosen = np.unique([0, columns // 4, columns // 2, columns - 1 - columns // 4, columns - 1])
        axes.set_xticks(_middles(sheet.shape[1], columns)[chosen], [f"{z:.1f}" for z in ticks[number, 0, chosen]])
        axes.set_yticks(_middles(sheet.shape[0], rows)[::-1][chosen], [f"{z:.1f}" for z in ticks[number, 1, chosen]])
        axes.tick_params(length=2, pad=1, labelsize=6)
        axes.set_xlabel(_symbol(dimensions[0]), labelpad=1)
        if number == 0:
            axes.set_ylabel(_symbol(dimensions[1]), labelpad=1, rotation=0, y=0.6)  # between two numbers
    return figure


def find_extremes(values: np.ndarray, count: int, apart: int) -> np.ndarray:
    """The highest of the maxima that nothing within `apart` places exceeds and that are not below the mean.

    Args:
      values: float `[T]`, at least one.
      count: At least 1.
      apart: At least 1; the maxima are further from one another than this.

    Returns:
      Their places in order, int `[1..count]`.
    """
    (maxima,) = argrelextrema(values, np.greater_equal, order=apart)
    chosen: list[int] = []
    for place in sorted(maxima[values[maxima] >= values.mean()], key=lambda place: (-values[place], place)):
        if len(chosen) < count and all(abs(place - other) > apart for other in chosen):
            chosen.append(place)
    return np.sort(chosen)


def draw_timeline(
    number: np.ndarray,
    mean: np.ndarray,
    stddev: np.ndarray,
    prior: tuple[float, float],
    high: dict[int, np.ndarray],
    low: dict[int, np.ndarray],
    dimension: int,
) -> Figure:
    """One dimension of z along a sequence, with the frames at its extremes.

    Args:
      number: int `[T]`, numbers of the frames, rising.
      mean: float `[T]`, of q(z | x, f).
      stddev: float `[T]`.
      prior: Mean and stddev of p(z | f).
      high: Place in `number` -> real frame float `[H, W, C]` in [0, 1], shown above, in rising order.
      low: The same, shown below.
      dimension: Which dimension of z it is.
    """
    figure = Figure((TEXT_WIDTH, 2 * PICTURE_SIDE + 2 * TIMELINE_GAP + TIMELINE_HEIGHT + 0.2))
    axes = _draw_curve(figure, number, mean, stddev, prior)
    axes.set_ylabel(_symbol(dimension))
    points = np.stack([number, mean], axis=-1)
    _draw_extremes(figure, axes, points, high, top=0.02, edge=0.0, colour=CLASS_COLOURS[0])
    below = PICTURE_SIDE + 2 * TIMELINE_GAP + TIMELINE_HEIGHT
    _draw_extremes(figure, axes, points, low, top=below, edge=1.0, colour=CLASS_COLOURS[2])
    return figure


def _draw_curve(
    figure: Figure, number: np.ndarray, mean: np.ndarray, stddev: np.ndarray, prior: tuple[float, float]
) -> Axes:
    """The curve of a timeline over p(z | f); arguments as of `draw_timeline`."""
    place = (TIMELINE_LEFT, PICTURE_SIDE + TIMELINE_GAP, TEXT_WIDTH - TIMELINE_LEFT - 0.1, TIMELINE_HEIGHT)
    behind, axes = (_axes(figure, *place) for _ in range(2))
    behind.set_zorder(-2)  # then the lines to the pictures, then the curve
    behind.set_axis_off()
    behind.axhspan(prior[0] - 2 * prior[1], prior[0] + 2 * prior[1], color=BAND, lw=0)
    behind.axhline(prior[0], color="white", lw=0.8)
    axes.patch.set_visible(False)
    axes.fill_between(number, mean - stddev, mean + stddev, color=CLASS_COLOURS[0], alpha=0.35, lw=0)
    axes.plot(number, mean, color=CLASS_COLOURS[0], marker="o", ms=1.5, lw=0.8)
    axes.set_xlim(number[0] - 0.01 * np.ptp(number), number[-1] + 0.01 * np.ptp(number))
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.tick_params(length=2, pad=2, direction="in")
    for words in axes.get_xticklabels():
        words.set_bbox(dict(color="white", pad=0.5))
    low_end, high_end = axes.get_ylim()
    for panel in (behind, axes):
        panel.set_ylim(min(low_end, prior[0] - 2.1 * prior[1]), max(high_end, prior[0] + 2.1 * prior[1]))
    axes.annotate(
        "frame", (0, 0), (-8, -3), xycoords="axes fraction", textcoords="offset points", ha="right", va="top", size=7
    )
    return axes


def _draw_extremes(
    figure: Figure,
    axes: Axes,
    points: np.ndarray,
    frames: dict[int, np.ndarray],
    top: float,
    edge: float,
    colour: Any,
) -> None:
    """A row of real frames, each with a line to its point of the curve.

    Args:
      figure: The timeline.
      axes: Of the curve.
      points: float `[T, 2]`, numbers of frames and z.
      frames: Place in `points` -> frame.
      top: Of the row, in inches.
      edge: Where a frame's number stands: 0 below it, 1 above it.
      colour: Of numbers and lines.
    """
    outwards = 0.14 if edge else -0.14
    width = TEXT_WIDTH - TIMELINE_LEFT - 0.1
    lefts = TIMELINE_LEFT + width * (np.arange(len(frames)) + 0.5) / max(len(frames), 1) - PICTURE_SIDE / 2
    for left, (place, frame) in zip(lefts, frames.items(), strict=True):
        picture = _show(figure, contact_sheets.grid(frame[None, None]), left, top, PICTURE_SIDE)
        where = dict(transform=picture.transAxes, ha="center", va="bottom" if edge else "top")
        picture.text(0.5, edge, f"{points[place, 0]:.0f}", fontsize=7, color=colour, **where)
        axes.plot(*points[place], "o", ms=4, mfc="none", mec=colour, mew=1)
        figure.add_artist(
            ConnectionPatch(
                (0.5, edge + outwards),
                tuple(points[place]),
                "axes fraction",
                "data",
                axesA=picture,
                axesB=axes,
                color=colour,
                lw=0.5,
                shrinkB=3,
                zorder=-1,
            )
        )


class Label(NamedTuple):
    """A label of points.

    Attributes:
      values: `[K]`: int, -1 where not known, with words; else numbers, NaN where not known, or texts.
      words: What the values stand for, or None.
    """

    values: np.ndarray
    words: Sequence[str] | None


def classes(label: Label) -> tuple[np.ndarray, list[str]] | None:
    """The known values of a label of classes, and their names; None if it is a quantity, which has an order."""
    values = label.values
    if label.words is not None:
        known = np.unique(values[values >= 0])
        return known, [label.words[value] for value in known]
    known = np.unique(values if values.dtype.kind not in "f" else values[np.isfinite(values)])
    if values.dtype.kind == "U" or (values.dtype.kind in "iu" and len(known) <= len(CLASS_COLOURS)):
        return known, [str(value) for value in known]
    return None


def draw_scatter(points: np.ndarray, labels: dict[str, Label], dimensions: tuple[int, int]) -> Figure:
    """All z in one plane, once for each label: classes with a legend, quantities with a colour bar.

    Args:
      points: float `[K, 2]`.
      labels: name -> label of the K points, at least one.
      dimensions: Which dimensions of z the points have.
    """
    wide = any(len(word) > MAX_SHORT_WORD for label in labels.values() for word in _legend(label))
    columns = min(2 if wide else 3, len(labels))
    rows = -(-len(labels) // columns)
    figure = Figure(
        (TEXT_WIDTH * min(1, columns / (2 if wide else 3)) + (0.6 if columns == 1 else 0), 1.9 * rows),
        layout="constrained",
    )
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, (name, label) in zip(panels, labels.items(), strict=False):
        _draw_labelled(axes, points, name, label)
    for place, axes in enumerate(panels):
        axes.set_visible(place < len(labels))
        if place + columns >= len(labels):
            axes.set_xlabel(_symbol(dimensions[0]), labelpad=1)
            axes.tick_params(labelbottom=True)
        if place % columns == 0:
            axes.set_ylabel(_symbol(dimensions[1]), labelpad=1)
    return figure


def _legend(label: Label) -> list[str]:
    """The words of a label that is drawn with a legend."""
    known_classes = classes(label)
    return known_classes[1] if known_classes and len(known_classes[1]) <= len(CLASS_COLOURS) else []


def _draw_labelled(axes: Axes, points: np.ndarray, name: str, label: Label) -> None:
    """One panel of a scatter."""
    points_style: dict[str, Any] = dict(s=3, linewidths=0)
    title = names.legible(name, or_else="a label", max_width=24)
    known_classes = classes(label)
    if known_classes is None:
        known = np.isfinite(label.values.astype(float))
        axes.scatter(*points[~known].T, color=UNKNOWN, **points_style)
        drawn = axes.scatter(*points[known].T, c=label.values[known].astype(float), cmap=SCALE, **points_style)
        bar = axes.figure.colorbar(drawn, ax=axes, aspect=18, pad=0.02)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=2)
    elif len(known_classes[0]) <= len(CLASS_COLOURS):
        colour = np.full((len(points), 3), float(UNKNOWN))
        for value, word, rgb in zip(*known_classes, CLASS_COLOURS, strict=False):
            colour[label.values == value] = rgb
            axes.scatter([], [], color=[rgb], s=12, label=names.legible(word, or_else=f"{value}"))
        axes.scatter(*points.T, c=colour, **points_style)
        axes.legend(
            loc="upper left", bbox_to_anchor=(1.0, 1.03), handletextpad=0.1, borderaxespad=0.1, labelspacing=0.25
        )
    else:
        values, _ = known_classes
        colour = matplotlib.colormaps[SCALE](np.searchsorted(values, label.values) / (len(values) - 1))
        colour[~np.isin(label.values, values)] = matplotlib.colors.to_rgba(UNKNOWN)
        axes.scatter(*points.T, c=colour, **points_style)
        title = f"{title} ({len(values)} values)"
    axes.set_title(title, pad=3)


def draw_swaps(real: np.ndarray, swapped: np.ndarray, truth: np.ndarray | None) -> Figure:
    """The swap matrix, and beside it the true frames where they are known.

    Args:
      real: float `[S, H, W, C]` in [0, 1], the frames that gave the codes.
      swapped: float `[S, S, H, W, C]`, f of the row and z of the column.
      truth: As `swapped`, or None.
    """
    header, empty = real[None], np.full_like(real[:1, None], np.nan)
    decoded = np.concatenate([np.concatenate([empty, header], axis=1), np.concatenate([real[:, None], swapped], 1)])
    sheets = [contact_sheets.grid(decoded, wide_gaps=(0, 0))]
    if truth is not None:
        sheets.append(contact_sheets.grid(np.concatenate([header, truth]), wide_gaps=(0, None)))
    left, gap, top = 0.2, 0.15, 0.32
    pixels = sum(sheet.shape[1] for sheet in sheets)
    scale = min((TEXT_WIDTH - left - gap * (len(sheets) - 1)) / pixels, 0.72 / (decoded.shape[3] * _enlargement(real)))
    figure = Figure((left + pixels * scale + gap * (len(sheets) - 1), top + sheets[0].shape[0] * scale + 0.03))
    place = left
    for sheet, title in zip(sheets, ("decoded", "true frames"), strict=False):
        axes = _show(figure, sheet, place, top, sheet.shape[1] * scale)
        axes.set_title(f"{title}\n$z$ of", fontsize=8, pad=2)
        if place == left:
            axes.set_ylabel("$f$ of", labelpad=2)
        place += sheet.shape[1] * scale + gap
    return figure


def _enlargement(frames: np.ndarray) -> int:
    """By how much `contact_sheets.grid` enlarges frames `[..., H, W, C]`."""
    return max(1, -(-contact_sheets.CELL // min(frames.shape[-3:-1])))


def draw_samples(frames: np.ndarray) -> Figure:
    """Frames float `[S, N, H, W, C]` in [0, 1], one f a row, one z a column of it."""
    sheet = contact_sheets.grid(frames)
    left, top = 0.2, 0.2
    figure = Figure((TEXT_WIDTH, top + _height(sheet, TEXT_WIDTH - left) + 0.03))
    axes = _show(figure, sheet, left, top, TEXT_WIDTH - left)
    axes.set_ylabel("$f$", labelpad=2)
    axes.set_title("$z$", pad=2)
    return figure


def draw_interpolations(static: np.ndarray, dynamic: np.ndarray, ends: tuple[np.ndarray, np.ndarray]) -> Figure:
    """Paths between codes: above in f, below in z; each row between two real frames.

    Args:
      static: float `[R, T, H, W, C]` in [0, 1], decoded along the paths in f.
      dynamic: float `[S, T, H, W, C]`, along the paths in z.
      ends: The real frames at both ends, float `[R, 2, H, W, C]` and `[S, 2, H, W, C]`.
    """
    left, gap, top = 0.2, 0.12, 0.2
    panels = list(zip((static, dynamic), ends, (r"$f$ changes, $z$ given it", r"$z$ changes, $f$ stays"), strict=True))
    sheets = [[contact_sheets.grid(part) for part in (end[:, :1], decoded, end[:, 1:])] for decoded, end, _ in panels]
    scale = (TEXT_WIDTH - left - 2 * gap) / sum(sheet.shape[1] for sheet in sheets[0])
    figure = Figure((TEXT_WIDTH, sum(top + 0.08 + parts[0].shape[0] * scale for parts in sheets) + 0.03))
    below = top
    for parts, (_, _, name) in zip(sheets, panels, strict=True):
        place = left
        for part, title in zip(parts, ("real", "decoded", "real"), strict=True):
            axes = _show(figure, part, place, below, part.shape[1] * scale)
            axes.set_title(title, fontsize=7, pad=2)
            if place == left:
                axes.set_ylabel(name, labelpad=2)
            place += part.shape[1] * scale + gap
        below += parts[0].shape[0] * scale + top + 0.08
    return figure


def draw_prior(
    posterior: np.ndarray,
    prior: np.ndarray,
    edges: np.ndarray,
    identities: Sequence[tuple[str, np.ndarray, np.ndarray, np.ndarray]],
    dimensions: tuple[int, int],
) -> Figure:
    """Where the aggregate posterior and p(z | f) put their mass.

    Args:
      posterior: float `[C, C]`, mass of the mean of q(z | x, f) in each cell, as `mass` gives it.
      prior: The same of the mean of p(z | f).
      edges: float `[2, C + 1]`, of the cells.
      identities: Name, mean and stddev of p(z | f) float `[2]`, and z float `[N, 2]`, of some sequences.
      dimensions: Which dimensions of z they are.
    """
    figure = Figure((TEXT_WIDTH, 2.2), layout="constrained")
    together, single = figure.subfigures(1, 2, width_ratios=(1.55, 1))
    panels = together.subplots(1, 2, sharex=True, sharey=True)
    # Square roots, since a few cells may hold most of the mass.
    colours = ScalarMappable(PowerNorm(0.5, 0, 1000 * max(posterior.max(), prior.max())), SCALE)
    for axes, cells, title in zip(
        panels, (posterior, prior), (r"mean of $q(z\,|\,x, f)$", r"mean of $p(z\,|\,f)$"), strict=True
    ):
        axes.pcolorfast(edges[0], edges[1], 1000 * cells, norm=colours.norm, cmap=colours.cmap)
        axes.set_title(title, pad=3)
        axes.set_xlabel(_symbol(dimensions[0]), labelpad=1)
    panels[0].set_ylabel(_symbol(dimensions[1]), labelpad=1)
    bar = together.colorbar(colours, ax=panels, aspect=22, pad=0.01, label="mass of a cell, thousandths")
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2)
    _draw_identities(single, identities)
    return figure


def _draw_identities(figure: SubFigure, identities: Sequence[tuple[str, np.ndarray, np.ndarray, np.ndarray]]) -> None:
    """Z of single sequences and their p(z | f), a panel each; arguments as of `draw_prior`."""
    columns = min(2, len(identities))
    panels = figure.subplots(-(-len(identities) // columns), columns, sharex=True, sharey=True, squeeze=False).ravel()
    figure.suptitle(r"$z$ and $p(z\,|\,f)$ of single sequences", fontsize=8)
    for axes, (name, mean, stddev, points) in zip(panels, identities, strict=False):
        axes.scatter(*points.T, s=1.5, color=CLASS_COLOURS[0], linewidths=0)
        for reach in (1, 2):
            axes.add_patch(Ellipse(mean, *(2 * reach * stddev), fill=False, color=CLASS_COLOURS[2], lw=0.9))
        axes.set_title(name, fontsize=7, pad=2)
        axes.tick_params(length=2, labelsize=6)
    for axes in panels[len(identities) :]:
        axes.set_visible(False)


CURVES = {  # what is drawn of the log -> title and scale of its axis
    "elbo": ("ELBO", "linear"),
    "reconstruction_excess": ("reconstruction above the pixel entropy", "log"),
    "kl_static": (r"KL$(q(f)\,\|\,p(f))\,/\,N$", "log"),
    "kl_dynamic": (r"KL$(q(z)\,\|\,p(z\,|\,f))$", "linear"),
}


LEARNING_CURVES = ("elbo", "reconstruction_excess")
LEGEND_COLUMNS, MAX_LABEL = 4, 30  # of the legend of learning curves; columns of a terminal


def draw_learning_curves(runs: Mapping[str, Sequence[Sequence[dict[str, Any]]]]) -> Figure:
    """The held-out bound of several runs, in nats a frame, against minutes of training.

    Args:
      runs: Name -> one run or several under that name, each the held-out lines of its `metrics.jsonl`.
    """
    figure = Figure((TEXT_WIDTH, 2.6 + 0.12 * -(-len(runs) // LEGEND_COLUMNS)), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, name in zip(panels, LEARNING_CURVES, strict=True):
        first = []  # line of each name
        for number, of_runs in enumerate(runs.values()):
            style = dict(color=CLASS_COLOURS[number % len(CLASS_COLOURS)], ls=STYLES[number // len(CLASS_COLOURS) % 4])
            points = [np.transpose([(line["minutes"], line[name]) for line in lines]) for lines in of_runs]
            drawn = [axes.plot(*of_run, marker="o", ms=2.5, lw=1, **style)[0] for of_run in points]
            first.append(drawn[0])
        _set_up(axes, name)
        axes.set_xlabel("minutes of training")
    panels[0].set_ylabel("nats a frame, held out")
    labels = [names.legible(name, f"run {number}", MAX_LABEL) for number, name in enumerate(runs, start=1)]
    figure.legend(first, labels, loc="outside lower center", ncols=LEGEND_COLUMNS, fontsize=6)
    return figure


def _set_up(axes: Axes, name: str) -> None:
    """Title, scale and grid of one of `CURVES`, with plain numbers on a logarithmic axis."""
    title, scale = CURVES[name]
    axes.set_title(title, pad=3)
    axes.grid(axis="y", color=BAND, lw=0.5, which="both")
    axes.tick_params(length=2)
    axes.set_yscale(scale)
    if scale == "log":
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
        axes.yaxis.set_minor_formatter(ScalarFormatter())


def draw_training(lines: Sequence[dict[str, Any]]) -> Figure:
    """The bound and its parts in nats a frame, against steps and minutes.

    Args:
      lines: Of `metrics.jsonl`, with at least one of either split.
    """
    figure = Figure((TEXT_WIDTH, 4.0), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    train = [line for line in lines if line["split"] == TRAIN]
    steps, minutes = (np.array([line[name] for line in train], float) for name in ("step", "minutes"))
    for axes, name in zip(panels.ravel(), CURVES, strict=True):
        for split, words, style in (
            (TRAIN, "training", dict(color=CLASS_COLOURS[0])),
            (HELD_OUT, "held out", dict(color=CLASS_COLOURS[2], marker="o", ms=3)),
        ):
            points = [(line["step"], line[name]) for line in lines if line["split"] == split]
            axes.plot(*np.transpose(points), label=words, **style)
        _set_up(axes, name)
        weights = [line["kl_weight"] for line in train]
        if min(weights) < 1 and max(weights) >= 1:
            axes.axvline(steps[np.argmax(np.array(weights) >= 1)], color=LINE, lw=0.6, ls=":")
    for axes in panels[:, 0]:
        axes.set_ylabel("nats a frame")
    for axes in panels[1]:
        axes.set_xlabel("step")
    for axes in panels[0]:
        shown = [minute for minute in MaxNLocator(5).tick_values(0, minutes[-1]) if minutes[0] <= minute <= minutes[-1]]
        above = axes.secondary_xaxis("top")
        above.set_xticks(np.interp(shown, minutes, steps), [f"{minute:g}" for minute in shown])
        above.set_xlabel("minutes of training", fontsize=7, labelpad=3)
        above.tick_params(length=2)
    panels[0, 0].legend()
    return figure


def save_plot(figure: Figure, stem: Path, dpi: int) -> list[Path]:
    """Writes `<stem>.pdf`, with frames as they are, and `<stem>.png`; without dates."""
    for text in figure.findobj(Text):
        text.set_family(names.font_families())
    images = figure.findobj(AxesImage)
    for image in images:
        image.set_interpolation("none")
    pdf, png = (stem.parent / f"{stem.name}.{kind}" for kind in ("pdf", "png"))
    figure.savefig(pdf, metadata={"CreationDate": None})
    for image in images:
        image.set_interpolation("auto")  # enlarged by whole pixels where there is room, otherwise smoothly
    figure.savefig(png, dpi=dpi, metadata={"Software": None}, pil_kwargs={"optimize": True})
    return [png, pdf]


def save_gif(film: np.ndarray, path: Path) -> None:
    """Writes uint8 `[T, H, W, 3]` as an endless GIF: one palette and no dither, so that nothing flickers."""
    palette = Image.fromarray(film.reshape(-1, *film.shape[2:])).quantize(256, dither=Image.Dither.NONE)
    first, *others = (Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in film)
    first.save(path, save_all=True, append_images=others, loop=0, duration=GIF_MILLISECONDS, optimize=False)
