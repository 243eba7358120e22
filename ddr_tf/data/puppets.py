"""Puppets: the built-in data. Characters drawn with Pillow whose two true dynamic factors are known angles."""

import math

import numpy as np
from PIL import Image, ImageDraw

from ddr_tf.config import configurable
from ddr_tf.data.characters import VALUES, Characters, attribute_values, composite_over
from ddr_tf.errors import UserError

SKIN = ("#f2c9a1", "#c98d5e", "#8a5632", "#55331f", "#7fb069", "#8fb8de")
# Colour, colour of the stripes (None: plain), length of the sleeves as a fraction of the arm.
SHIRT = (
    ("#d1383d", None, 0.95),
    ("#f4d35e", None, 0.45),
    ("#2f6fde", None, 0.95),
    ("#f7f7f2", "#d1383d", 0.45),
    ("#2a9d5c", None, 0.0),
    ("#9b5de5", "#f4d35e", 0.95),
)
# Colour, length as a fraction of the leg, whether it is a skirt.
LEGS = (
    ("#2f4b7c", 1.0, False),
    ("#b08968", 1.0, False),
    ("#d45087", 0.55, True),
    ("#9aa0a6", 0.5, False),
    ("#e07a2f", 1.0, False),
    ("#3aa6a0", 0.75, True),
)
HAIR = (
    ("#5b3a1e", "short"),
    ("#f0d264", "long"),
    ("#c2452d", "round"),
    ("#43b04a", "mohawk"),
    ("#d9d9e3", "bun"),
    ("#8d3fc4", "cap"),
)
NAMES = {
    "skin": ("light", "tan", "brown", "dark", "green", "blue"),
    "legs": ("navy", "beige", "pink skirt", "grey shorts", "orange", "teal skirt"),
    "shirt": ("red", "yellow", "blue", "white, striped", "green", "violet, striped"),
    "hair": ("brown, short", "blond, long", "red, round", "green mohawk", "grey bun", "violet cap"),
}
# In painting order: trousers go under the shirt.
ATTRIBUTES = ("skin", "legs", "shirt", "hair")

ARMS_RANGE = (0.0, 150.0)  # degrees from hanging down, both arms alike
LEAN_RANGE = (-15.0, 15.0)  # degrees from upright; positive leans to the right of the picture
POSE_SEED = 423
SUPERSAMPLING = 4  # drawn this much larger and averaged, since Pillow's shapes have hard edges

_FEET_Y, _LEG, _TORSO, _ARM, _HEAD = 0.94, 0.3, 0.26, 0.26, 0.13  # fractions of the frame's side


class _Joints:
    """Where the joints of one pose are, in units of the frame's side.

    Points are complex numbers, x + y i, which Python adds many times as fast as arrays of two.
    """

    def __init__(self, arms: float, lean: float) -> None:
        """Args: arms, lean: In degrees."""
        turn = math.radians(lean)
        self.up, self.right = complex(math.sin(turn), -math.cos(turn)), complex(math.cos(turn), math.sin(turn))
        self.feet = [complex(0.5 + s * 0.11, _FEET_Y) for s in (-1, 1)]
        hip = complex(0.5, _FEET_Y) + _LEG * self.up
        self.hips = [hip + s * 0.07 * self.right for s in (-1, 1)]
        self.neck = hip + _TORSO * self.up
        self.head = self.neck + 0.12 * self.up
        self.shoulders = [self.neck + s * 0.12 * self.right - 0.04 * self.up for s in (-1, 1)]
        raised = math.radians(arms)
        self.hands = [
            shoulder + _ARM * (s * math.sin(raised) * self.right - math.cos(raised) * self.up)
            for s, shoulder in zip((-1, 1), self.shoulders, strict=True)
        ]

    def at(self, origin: complex, right: float, up: float) -> complex:
        return origin + right * self.right + up * self.up


class _Canvas:
    """Draws in units of the frame's side."""

    def __init__(self, side: int) -> None:
        self.image = Image.new("RGBA", (side, side), (0, 0, 0, 0))
        self._draw, self._side = ImageDraw.Draw(self.image), side

    def limb(self, start: complex, end: complex, width: float, colour: str) -> None:
        for point in (start, end):
            self.disc(point, width / 2, colour)
        self._draw.line(self._pixels(start, end), fill=colour, width=round(width * self._side))

    def disc(self, centre: complex, radius: float, colour: str) -> None:
        corner = complex(radius, radius)
        self._draw.ellipse(self._pixels(centre - corner, centre + corner), fill=colour)

    def polygon(self, points: list[complex], colour: str) -> None:
        self._draw.polygon(self._pixels(*points), fill=colour)

    def _pixels(self, *points: complex) -> list[tuple[float, float]]:
        return [(point.real * self._side, point.imag * self._side) for point in points]


def _paint_skin(canvas: _Canvas, p: _Joints, value: int) -> None:
    colour = SKIN[value]
    for foot, hip, shoulder, hand in zip(p.feet, p.hips, p.shoulders, p.hands, strict=True):
        canvas.limb(foot, hip, 0.1, colour)
        canvas.limb(shoulder, hand, 0.075, colour)
    canvas.limb(p.neck, p.head, 0.07, colour)
    canvas.disc(p.head, _HEAD, colour)
    for side in (-1, 1):
        canvas.disc(p.at(p.head, side * 0.055, -0.01), 0.022, "#101018")


def _paint_legs(canvas: _Canvas, p: _Joints, value: int) -> None:
    colour, length, skirt = LEGS[value]
    ends = [hip + length * (foot - hip) for hip, foot in zip(p.hips, p.feet, strict=True)]
    if skirt:
        left, right = ends
        canvas.polygon(
            [p.hips[0] - 0.06 * p.right, p.hips[1] + 0.06 * p.right, right + 0.07 * p.right, left - 0.07 * p.right],
            colour,
        )
    else:
        for hip, end in zip(p.hips, ends, strict=True):
            canvas.limb(hip, end, 0.12, colour)


def _paint_shirt(canvas: _Canvas, p: _Joints, value: int) -> None:
    colour, stripes, sleeve = SHIRT[value]
    for shoulder, hand in zip(p.shoulders, p.hands, strict=True):
        if sleeve:
            canvas.limb(shoulder, shoulder + sleeve * (hand - shoulder), 0.095, colour)
    bottom = (p.hips[0] + p.hips[1]) / 2 - 0.02 * p.up
    canvas.polygon(
        [p.at(p.neck, -0.15, 0.0), p.at(p.neck, 0.15, 0.0), p.at(bottom, 0.13, 0.0), p.at(bottom, -0.13, 0.0)], colour
    )
    if stripes:
        for height in (0.06, 0.13, 0.2):
            canvas.polygon(
                [p.at(bottom, x, height + y) for x, y in ((-0.13, 0), (0.13, 0), (0.13, 0.04), (-0.13, 0.04))],
                stripes,
            )


def _paint_hair(canvas: _Canvas, p: _Joints, value: int) -> None:
    colour, style = HAIR[value]
    crown = [
        p.at(p.head, 1.12 * _HEAD * math.cos(a), 1.12 * _HEAD * math.sin(a))
        for a in np.linspace(0.15, math.pi - 0.15, 16)
    ]
    if style == "mohawk":
        corners = (-0.05, 0.07), (-0.06, 0.2), (0.06, 0.2), (0.05, 0.07)
        canvas.polygon([p.at(p.head, x, y) for x, y in corners], colour)
        return
    canvas.polygon(crown, colour)
    if style == "long":
        for side in (-1, 1):
            canvas.limb(p.at(p.head, side * 0.12, 0.03), p.at(p.head, side * 0.135, -0.14), 0.06, colour)
    elif style == "round":
        for angle in np.linspace(0.2, math.pi - 0.2, 6):
            canvas.disc(p.at(p.head, 0.135 * math.cos(angle), 0.135 * math.sin(angle)), 0.06, colour)
    elif style == "bun":
        canvas.disc(p.at(p.head, 0.0, 0.155), 0.06, colour)
    elif style == "cap":
        corners = (-0.19, 0.03), (0.19, 0.03), (0.19, 0.075), (-0.19, 0.075)
        canvas.polygon([p.at(p.head, x, y) for x, y in corners], colour)


_PAINTERS = {"skin": _paint_skin, "legs": _paint_legs, "shirt": _paint_shirt, "hair": _paint_hair}


def draw_layer(attribute: str, value: int, pose: np.ndarray, size: int) -> np.ndarray:
    """One layer of a puppet.

    Args:
      attribute: One of `ATTRIBUTES`.
      value: 0..5.
      pose: float `[2]`, angles of arms and lean in degrees.
      size: Side of the frame in pixels.

    Returns:
      uint8 `[size, size, 4]`, RGBA, not premultiplied.
    """
    canvas = _Canvas(size * SUPERSAMPLING)
    _PAINTERS[attribute](canvas, _Joints(float(pose[0]), float(pose[1])), value)
    layer = np.array(canvas.image.reduce(SUPERSAMPLING))
    if attribute == ATTRIBUTES[-1]:  # `Characters` wants the top layer opaque or absent
        layer[..., 3] = np.where(layer[..., 3] >= 128, 255, 0)
    return layer


@configurable()
class Puppets(Characters):
    """1,296 puppets (skin, shirt, legs and hair, six values each) in poses of two continuous angles.

    The poses are `num_poses` uniform draws over `ARMS_RANGE` x `LEAN_RANGE`, the same for all puppets, so that any
    swap has a true frame. Deterministic. `frame_labels` are the angles `arms` and `lean`, in degrees.
    """

    licence = "Apache-2.0, as ddr_tf"
    open_licence = True
    ordered = False  # poses are drawn at random

    def __init__(self, size: int = 32, num_poses: int = 256) -> None:
        """Draws the layers: about 3 s and 170 MB at the defaults.

        Args:
          size: Side of the frames in pixels, a multiple of 16.
          num_poses: Frames of each sequence.

        Raises:
          UserError: If a size is out of range.
        """
        if not isinstance(size, int | np.integer) or size < 16 or size % 16:
            raise UserError(f"Puppets.size must be a multiple of 16 (the encoder halves it four times), got {size!r}.")
        if not isinstance(num_poses, int | np.integer) or num_poses < 2:
            raise UserError(f"Puppets.num_poses must be a whole number of at least 2, got {num_poses!r}.")
        self.size = size
        low, high = np.transpose([ARMS_RANGE, LEAN_RANGE])
        self.poses = np.random.RandomState(POSE_SEED).uniform(low, high, (num_poses, 2))
        layers = [
            [[draw_layer(attribute, value, pose, size) for pose in self.poses] for value in range(VALUES)]
            for attribute in ATTRIBUTES
        ]
        super().__init__(
            "puppets",
            ATTRIBUTES,
            np.array(layers),
            {"arms": self.poses[:, 0], "lean": self.poses[:, 1]},
            label_names=NAMES,
        )

    def render(self, identity: int, pose: np.ndarray) -> np.ndarray:
        """The true frame of any puppet in any pose, also poses that no sequence contains.

        Args:
          identity: 0..1295.
          pose: float `[2]`, angles of arms and lean in degrees.

        Returns:
          uint8 `[size, size, 3]`.
        """
        frame = np.zeros((self.size, self.size, 3), np.uint8)
        for attribute, value in zip(ATTRIBUTES, attribute_values(np.asarray(identity)), strict=True):
            frame = composite_over(frame, draw_layer(attribute, int(value), pose, self.size))
        return frame
