"""Contact sheets: codes -> decoded frames -> grids of frames with a caption."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw, ImageFont

from ddr_tf.data.sequence_dataset import HELD_OUT, TRAIN, SequenceDataset
from ddr_tf.evaluation.held_out import draw_frame_numbers, fetch
from ddr_tf.evaluation.interfaces import DensityModel
from ddr_tf.folders import escaped
from ddr_tf.model.ddr import as_float

CELL = 64  # pixels, the smallest side of a frame in a sheet; smaller frames are enlarged by a whole factor
GAP = 2  # pixels between frames
NUM_SHOWN = 8  # sequences, and frames of each
BACKGROUND = 255
INK = 40
NO_CHARACTER = "\uffff"  # no font has this character
FONT_FILES = ("DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "msyh.ttc")  # for other scripts
PLANE_STEPS = 9  # points a side of the latent plane
PLANE_REACH = 2.5  # standard deviations of p(z | f) from its mean to the edge of the plane


def grid(frames: np.ndarray, wide_gaps: tuple[int | None, int | None] = (None, None)) -> np.ndarray:
    """Lays frames out in rows and columns.

    Args:
      frames: float in [0, 1] `[R, S, H, W, C]`, C = 1 or 3. NaN frames are left blank.
      wide_gaps: A wider gap after this row, and after this column.

    Returns:
      uint8 `[height, width, 3]`.
    """
    rows, columns, height, width, channels = frames.shape
    scale = max(1, -(-CELL // min(height, width)))
    frames = np.repeat(np.repeat(frames, scale, axis=2), scale, axis=3)
    frames = np.where(np.isnan(frames), BACKGROUND, np.round(frames * 255)).astype(np.uint8)
    frames = np.broadcast_to(frames, (*frames.shape[:4], 3)) if channels == 1 else frames

    def offsets(count: int, size: int, wide: int | None) -> list[int]:
        return [GAP + i * (size + GAP) + (4 * GAP if wide is not None and i > wide else 0) for i in range(count)]

    tops, lefts = offsets(rows, height * scale, wide_gaps[0]), offsets(columns, width * scale, wide_gaps[1])
    sheet = np.full((tops[-1] + height * scale + GAP, lefts[-1] + width * scale + GAP, 3), BACKGROUND, np.uint8)
    for row, top in enumerate(tops):
        for column, left in enumerate(lefts):
            sheet[top : top + height * scale, left : left + width * scale] = frames[row, column]
    return sheet


def side_by_side(sheets: Sequence[np.ndarray]) -> np.ndarray:
    """Sheets of equal height next to one another, with a wide gap."""
    gap = np.full((sheets[0].shape[0], 6 * GAP, 3), BACKGROUND, np.uint8)
    return np.concatenate([part for sheet in sheets for part in (sheet, gap)][:-1], axis=1)


def with_caption(sheet: np.ndarray, caption: str) -> np.ndarray:
    """Puts one or more lines of text above a sheet, wrapped to its width."""
    font = ImageFont.load_default(size=15)
    lines: list[str] = []
    for word in caption.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= sheet.shape[1] - 4 * GAP:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    text = "\n".join(lines)
    banner = Image.new("RGB", (sheet.shape[1], 20 * len(lines) + 8), (BACKGROUND,) * 3)
    ImageDraw.Draw(banner).multiline_text((2 * GAP, 4), text, fill=(INK,) * 3, font=font)
    return np.concatenate([np.array(banner), sheet])


def with_row_names(sheet: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Puts a name to the left of each row of a `grid`, cut to fit.

    A name that no font here has the characters of is shown as "row 1", "row 2" ...
    """
    width = 160
    margin = Image.new("RGB", (width, sheet.shape[0]), (BACKGROUND,) * 3)
    height = (sheet.shape[0] - GAP) / len(names)
    for row, name in enumerate(map(escaped, names)):
        font = _font_with(name, size=13)
        if font is None:
            font, name = ImageFont.load_default(size=13), f"row {row + 1}"
        while font.getlength(name) > width - 4 * GAP:
            name = name[1:]
        ImageDraw.Draw(margin).text((2 * GAP, (row + 0.5) * height), name, fill=(INK,) * 3, font=font, anchor="lm")
    return np.concatenate([np.array(margin), sheet], axis=1)


def _font_with(text: str, size: int) -> ImageFont.FreeTypeFont | None:
    """Pillow's own font, or one of `FONT_FILES` on this machine that has all characters; None: there is none."""
    for file in (None, *FONT_FILES):
        try:
            font = ImageFont.load_default(size) if file is None else ImageFont.truetype(file, size)
        except OSError:
            continue
        missing = bytes(font.getmask(NO_CHARACTER))
        if not any(bytes(font.getmask(character)) == missing for character in set(text)):
            return font
    return None


def reconstructions(model: DensityModel, frames: tf.Tensor, kind: str = "held-out") -> np.ndarray:
    """Real frames `[S, N, H, W, C]` of sequences of a kind, each row with its reconstruction below."""
    codes = model.encode(frames)
    pairs = np.stack([as_float(frames), model.decode(codes["static_mean"], codes["dynamic_mean"])], axis=1)
    sheet = grid(pairs.reshape(-1, *pairs.shape[2:]))
    return with_caption(sheet, f"Rows in pairs: real frames of one {kind} sequence, and their reconstructions.")


def dynamic_given(model: DensityModel, static: tf.Tensor, frames: tf.Tensor) -> tf.Tensor:
    """Each frame's dynamic code as it would be with each static code: the means of q(z | x, f).

    Args:
      model: A model.
      static: f, float32 `[S, F]`.
      frames: uint8, or float in [0, 1], `[T, H, W, C]`.

    Returns:
      float32 `[S, T, Z]`.
    """
    features = tf.repeat(model.features(frames[None]), tf.shape(static)[0], axis=0)
    return model.dynamic_posterior(features, static).mean()


def swap_frames(model: DensityModel, static: tf.Tensor, frames: tf.Tensor) -> np.ndarray:
    """Each static code with each frame's dynamic code, as `dynamic_given` it.

    Returns:
      float32 `[S, T, H, W, C]` in [0, 1].
    """
    return model.decode(static, dynamic_given(model, static, frames)).numpy()


def swaps(model: DensityModel, frames: tf.Tensor) -> np.ndarray:
    """`swap_frames` of f and the first frames of real sequences `[S, N, H, W, C]`, beside these frames."""
    edge = as_float(frames)[:, 0]
    swapped = swap_frames(model, model.encode(frames)["static_mean"], frames[:, 0])
    table = np.concatenate([edge[:, None], swapped], axis=1)
    header = np.concatenate([np.full_like(edge[:1], np.nan), edge])[None]
    sheet = grid(np.concatenate([header, table]), wide_gaps=(0, 0))
    return with_caption(
        sheet,
        "Swaps. Row: who (static code of the real frame on the left). Column: pose (dynamic code of the real frame "
        "at the top, given the static code of the row).",
    )


def sample_frames(model: DensityModel, num_sequences: int, num_frames: int, seed: int) -> np.ndarray:
    """Frames of sequences that never were, see `Bounds.sample_codes`: float32 `[S, N, H, W, C]` in [0, 1]."""
    return model.decode(*model.sample_codes(num_sequences, num_frames, tf.constant([seed & 0x7FFFFFFF, 0]))).numpy()


def samples(model: DensityModel, num_sequences: int, num_frames: int, seed: int) -> np.ndarray:
    """`sample_frames`, one f a row."""
    sheet = grid(sample_frames(model, num_sequences, num_frames, seed))
    return with_caption(sheet, f"Samples. One static code a row: {sampled_from(model)}.")


def sampled_from(model: DensityModel) -> str:
    """What `sample_frames` draws codes from, for a caption."""
    if model.static_density is not None and model.dynamic_density is not None:
        return "f and z from densities fitted after training"
    fitted = "a density fitted after training"
    static = "p(f)" if model.static_density is None else fitted
    return f"f from {static}, z from {'p(z | f)' if model.dynamic_density is None else fitted}"


def plane_frames(model: DensityModel, codes: dict[str, tf.Tensor], across: int = 0, up: int = 1) -> np.ndarray:
    """Z on a grid over what p(z | f) covers, decoded: two dimensions of it, the others at the mean.

    Args:
      model: A model.
      codes: What `model.encode` returns for S sequences.
      across: The dimension that grows to the right, over `PLANE_STEPS` columns and `PLANE_REACH` stddevs either way.
      up: The dimension that grows from the last row to the first.

    Returns:
      float32 `[S, PLANE_STEPS, PLANE_STEPS, H, W, C]` in [0, 1].
    """
    steps = np.linspace(-PLANE_REACH, PLANE_REACH, PLANE_STEPS, dtype=np.float32)
    unit = np.zeros((PLANE_STEPS, PLANE_STEPS, max(model.dynamic_dim, 2)), np.float32)
    unit[..., across], unit[..., up] = steps[None, :], steps[::-1, None]
    unit = unit.reshape(1, -1, unit.shape[-1])[..., : model.dynamic_dim]
    dynamic = codes["prior_mean"][:, None] + codes["prior_stddev"][:, None] * unit
    decoded = model.decode(codes["static_mean"], dynamic).numpy()
    return decoded.reshape(-1, PLANE_STEPS, PLANE_STEPS, *model.frame_shape)


def latent_plane(model: DensityModel, frames: tf.Tensor, num_sequences: int = 3) -> np.ndarray:
    """`plane_frames` for the f of several sequences of real frames `[S, N, H, W, C]`."""
    planes = plane_frames(model, model.encode(frames[:num_sequences]))
    reach = f"over the mean +- {PLANE_REACH} standard deviations of p(z | f)"
    others = ", the others at the mean" if model.dynamic_dim > 2 else ""
    ways = f"z_1 to the right, z_2 up, each {reach}{others}" if model.dynamic_dim > 1 else f"z to the right, {reach}"
    return with_caption(
        side_by_side([grid(plane) for plane in planes]), f"The plane of z for {len(planes)} static codes: {ways}."
    )


class Shown(NamedTuple):
    """Real frames for contact sheets, uint8 `[S, N, H, W, C]` each: of held-out and of training sequences."""

    held_out: tf.Tensor
    train: tf.Tensor


def draw_shown(sequences: SequenceDataset, seed: int) -> Shown:
    """Draws up to `NUM_SHOWN` different sequences of either split, and `NUM_SHOWN` frames of each."""
    random = np.random.RandomState(seed & 0x7FFFFFFF)

    def draw(split: str) -> tf.Tensor:
        numbers = random.permutation(sequences.splits[split])[:NUM_SHOWN]
        return fetch(sequences, numbers, draw_frame_numbers(random, sequences, numbers, NUM_SHOWN))

    return Shown(draw(HELD_OUT), draw(TRAIN))


def contact_sheets(model: DensityModel, shown: Shown, seed: int) -> dict[str, np.ndarray]:
    """All sheets, uint8 `[height, width, 3]` by name.

    All are of held-out sequences, but `reconstructions_train`: a model that has learnt nothing and one that does not
    generalise look different there.
    """
    num_sequences, num_frames = shown.held_out.shape[:2]
    return {
        "reconstructions": reconstructions(model, shown.held_out),
        "reconstructions_train": reconstructions(model, shown.train, "training"),
        "swaps": swaps(model, shown.held_out),
        "samples": samples(model, num_sequences, num_frames, seed),
        "latent_plane": latent_plane(model, shown.held_out),
    }
