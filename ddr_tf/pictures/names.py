"""Names that users give to sequences and labels, as pictures can show them."""

import functools
import unicodedata

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

FONT = "DejaVu Sans"  # matplotlib's own
LAST_RESORT = "Last Resort High-Efficiency"  # has a box for every character
MAX_WIDTH = 16  # of a name, in columns of a terminal: a Chinese character takes two


def legible(name: str, or_else: str, max_width: int = MAX_WIDTH) -> str:
    """A name as matplotlib can show it: cut at its beginning to fit, and no character taken for a formula.

    Args:
      name: Any text.
      or_else: What is shown if no font on this machine has the characters, or if they run from right to left, which
        matplotlib cannot set.
      max_width: In columns of a terminal.
    """
    name = "".join("·" if unicodedata.category(character) == "Cc" else character for character in name)
    if any(unicodedata.bidirectional(character) in ("R", "AL") for character in name):
        return or_else
    if any(_family_of(character) is None for character in set(name)):
        return or_else
    return shortened(name, max_width).replace("$", r"\$")


def shortened(text: str, max_width: int) -> str:
    """The end of a text, behind an ellipsis if it is wider than `max_width` columns."""
    if _width(text) <= max_width:
        return text
    while _width(text) > max_width - 1:
        text = text[1:]
    return f"…{text}"


def font_families() -> list[str]:
    """Matplotlib's own font, and those that `legible` found other characters in; each stands in for the ones before."""
    return list(dict.fromkeys([FONT, *_found_in.values()]))


_found_in: dict[str, str] = {}  # character -> font family, for characters that FONT lacks


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


@functools.cache
def _characters(path: str) -> frozenset[int]:
    """What a font has."""
    return frozenset(FT2Font(path).get_charmap())


def _family_of(character: str) -> str | None:
    """The font of this machine that has a character."""
    if character in _found_in:
        return _found_in[character]
    if ord(character) in _characters(font_manager.findfont(FONT)):
        return FONT
    for font in sorted(font_manager.fontManager.ttflist, key=lambda font: (font.weight != 400, font.name)):
        if font.name != LAST_RESORT and ord(character) in _characters(font.fname):
            _found_in[character] = font.name
            return font.name
    return None
