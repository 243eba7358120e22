"""Where to crop: one face followed through a clip, or boxes that are given; and the crop itself."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from ddr_tf.files import read_limited

SAME_FACE = 0.3  # intersection over union of the boxes of one face in successive frames
MAX_GAP = 10  # source frames between a detection and a frame that is still cropped
CENTRE_SMOOTHING = 2.0  # standard deviation in source frames; with more, the crop would lag behind a nodding head
MAX_POINTS_BYTES = 1_000_000  # bytes of a .pts file, which has about 68 lines
SIDE_SMOOTHING = 10.0  # the same for the size, which must not change when a mouth opens


def overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of one box `[4]` with boxes `[n, 4]` (left, top, right, bottom): float `[n]`, 0 to 1."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.prod(np.maximum(sides, 0), axis=1)
    union = np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) - shared
    return shared / np.maximum(union, 1e-9)


def face_track(detections: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
    """The boxes of the one face that is the most of a clip.

    A box continues the track whose last box it overlaps most, even after a gap, if by at least 0.3. The track with the
    largest sum of sides wins: that of a large face that is there for long, not of whatever is in the first frame.
    A cut from one person to another in the same place is not noticed.

    Args:
      detections: Boxes float `[n, 4]` (left, top, right, bottom, in pixels) by frame number, in its order.

    Returns:
      Box float `[4]` by frame number; empty if there are no boxes at all.
    """
    tracks: list[dict[int, np.ndarray]] = []
    for number, boxes in detections.items():
        free = list(boxes)
        # Longer tracks have the first choice.
        for track in sorted(tracks, key=len, reverse=True):
            if not free:
                break
            overlaps = overlap(next(reversed(track.values())), np.stack(free))
            if overlaps.max() >= SAME_FACE:
                track[number] = free.pop(int(overlaps.argmax()))
        tracks += [{number: box} for box in free]
    return max(tracks, key=lambda track: sum(np.sqrt(np.prod(b[2:] - b[:2])) for b in track.values()), default={})


def smooth(numbers: np.ndarray, values: np.ndarray, deviation: float) -> np.ndarray:
    """Gaussian average over time of a series with gaps.

    Args:
      numbers: int `[T]`, frame numbers in ascending order: the times.
      values: float `[T]`.
      deviation: Standard deviation in frames, above 0.

    Returns:
      float `[T]`, each a weighted mean of the values within three standard deviations.
    """
    starts = np.searchsorted(numbers, numbers - 3 * deviation)
    ends = np.searchsorted(numbers, numbers + 3 * deviation, side="right")
    smoothed = np.empty(len(values))
    for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
        weights = np.exp(-0.5 * ((numbers[start:end] - numbers[place]) / deviation) ** 2)
        smoothed[place] = weights @ values[start:end] / weights.sum()
    return smoothed


def square(box: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """Centre and side of the square around a box.

    Args:
      box: float `[..., 4]`: left, top, right, bottom in pixels.
      margin: Added on each side, in longer sides of the box.

    Returns:
      float `[..., 3]`: centre x, centre y, side in pixels.
    """
    sides = box[..., 2:] - box[..., :2]
    side = sides.max(axis=-1, keepdims=True) * (1 + 2 * margin)
    return np.concatenate([box[..., :2] + sides / 2, side], axis=-1)


def face_squares(track: Mapping[int, np.ndarray], numbers: Iterable[int], margin: float) -> dict[int, np.ndarray]:
    """What to crop: the track's squares, interpolated where the face was missed for a moment, and smoothed.

    Args:
      track: Box `[4]` by frame number, at least one.
      numbers: Numbers of the frames that were looked at, in ascending order.
      margin: As of `square`.

    Returns:
      Square float `[3]` (centre x, centre y, side in pixels) by frame number, for the frames that are at most 10 source
      frames from one with a detection.
    """
    detected = np.array(sorted(track))
    numbers = np.array([number for number in numbers if np.abs(detected - number).min() <= MAX_GAP])
    squares = square(np.stack([track[number] for number in detected]), margin)
    deviations = (CENTRE_SMOOTHING, CENTRE_SMOOTHING, SIDE_SMOOTHING)
    series = [
        smooth(numbers, np.interp(numbers, detected, values), deviation)
        for values, deviation in zip(squares.T, deviations, strict=True)
    ]
    return dict(zip(numbers.tolist(), np.stack(series, axis=1), strict=True))


def crop(frame: np.ndarray, area: np.ndarray, size: int) -> np.ndarray | None:
    """Cuts out a square, with the edge's pixels repeated where it goes beyond the frame.

    Args:
      frame: uint8 `[H, W, 3]`.
      area: float `[3]`: centre x, centre y, side in pixels, between pixels too.
      size: Side of the result in pixels.

    Returns:
      uint8 `[size, size, 3]`; None if the square is empty, misses the frame, or is beyond all proportion to it.
    """
    height, width = frame.shape[:2]
    centre_x, centre_y, side = (float(number) for number in area)
    left, top = centre_x - side / 2, centre_y - side / 2
    if not (0 < side <= 4 * max(height, width) and -side < left < width and -side < top < height):  # NaN fails, too
        return None
    first_x, first_y = int(np.floor(left)), int(np.floor(top))
    end_x, end_y = int(np.ceil(left + side)), int(np.ceil(top + side))
    rows = np.clip(np.arange(first_y, max(end_y, first_y + 1)), 0, height - 1)
    columns = np.clip(np.arange(first_x, max(end_x, first_x + 1)), 0, width - 1)
    box = (left - first_x, top - first_y, left - first_x + side, top - first_y + side)
    image = Image.fromarray(frame[rows[:, None], columns])
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))


def read_points(path: Path) -> np.ndarray:
    """The points of an ibug `.pts` file.

    Returns:
      float `[points, 2]`: x, y in pixels.

    Raises:
      ValueError: If the file is not of that format, or a number is not finite.
      OSError: If it cannot be read.
    """
    body = re.search(r"\{(.*)\}", read_limited(path, MAX_POINTS_BYTES).decode("utf-8", "replace"), re.DOTALL)
    if body is None:
        raise ValueError(f"{path} has no points between braces.")
    points = np.array([line.split() for line in body[1].splitlines() if line.strip()], np.float64)
    if points.ndim != 2 or len(points) < 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ValueError(f"{path} does not hold two or more points of two numbers.")
    return points


def read_squares(folder: Path, margin: float) -> tuple[dict[int, np.ndarray], str]:
    """The squares around the points of the `.pts` files in a folder, one file a frame.

    The files are named by the frame's number. They count from 0 if there is one numbered 0, else from 1.

    Returns:
      The square float `[3]` (see `square`) by frame number from 1, and a note on files that cannot be read.
    """
    files = {int(path.stem): path for path in sorted(folder.glob("*.pts")) if re.fullmatch("[0-9]+", path.stem)}
    first = 0 if 0 in files else 1
    squares, broken = {}, []
    for number in sorted(files):
        try:
            points = read_points(files[number])
        except (ValueError, OSError):
            broken.append(files[number].name)
        else:
            squares[number - first + 1] = square(np.concatenate([points.min(0), points.max(0)]), margin)
    return squares, f"{len(broken)} .pts files cannot be read, the first is {broken[0]}" if broken else ""
