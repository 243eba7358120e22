"""Values of a label, text or whatever people have in Python -> numbers, and the words that they stand for."""

import re
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ddr_tf.folders import natural_order

# What stands for "not known": the words that pandas takes for it, and a dash.
_PANDAS = "#N/A|#N/A N/A|#NA|-1.#IND|-1.#QNAN|-NaN|-nan|1.#IND|1.#QNAN|<NA>|N/A|NA|NULL|NaN|None|n/a|nan|null"
MISSING = frozenset(("", "-", *_PANDAS.split("|")))
TRUTH = ("False", "True")  # the words of booleans


def label_array(values: ArrayLike, words: Sequence[str] | None = None) -> tuple[np.ndarray, Sequence[str] | None]:
    """A label as people have it in Python -> an array of numbers, and the words that they stand for.

    Args:
      values: An array or a list: numbers; or booleans or text, which are classes. What is masked, None, NaN, infinite
        or beyond float32, and `MISSING` among objects or text, is not known.
      words: Those that are known already: of numbers and booleans, or in the order that text shall have.

    Returns:
      `[n]`: numbers as they are, and `words`; of classes int32, -1 where not known, and their words.

    Raises:
      ValueError: With the reason, if they are something else, or not one value for each thing.
    """
    if isinstance(values, np.ma.MaskedArray):
        data = values.data
        values = np.where(values.mask, None, data.astype(object)) if np.ma.is_masked(values) else data
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError("is not one value for each") from error
    if array.ndim != 1:
        raise ValueError(f"is of the shape {list(array.shape)}, not one value for each")
    kind = array.dtype.kind
    if kind == "O":
        array, kind = _of_objects(array.tolist())
    if kind == "f":
        array = np.where(np.abs(array) <= np.finfo(np.float32).max, array, np.nan)
    if kind in "iuf":
        return array, words
    if kind == "b":
        return array.astype(np.int32), words or TRUTH
    if kind not in "UST":
        raise ValueError(f"is of {array.dtype}; it must be numbers, text or booleans")
    text = array.tolist() if kind == "T" else array.astype(str).tolist()
    numbers, found = as_label(text, is_class=True)
    if words is None:
        return numbers, found
    if unknown := set(found) - set(words):
        raise ValueError(f"has the value {min(unknown)!r}, which is none of its words")
    places = [list(words).index(word) for word in found] + [-1]
    return np.array(places, np.int32)[numbers], words


def _of_objects(values: list[Any]) -> tuple[np.ndarray, str]:
    """Objects of one kind as an array, and the kind of its numbers: "f" or "i", "b" or "U"."""
    values = [None if str(value).strip() in MISSING else value for value in values]
    known = [value for value in values if value is not None]
    if all(isinstance(value, str) for value in known) and known:
        return np.array([value or "" for value in values]), "U"
    if all(isinstance(value, bool | np.bool_) for value in known) and known:
        return np.array([-1 if value is None else int(value) for value in values]), "b"
    if not all(isinstance(value, Real) and not isinstance(value, bool | np.bool_) for value in known):
        kinds = sorted({type(value).__name__ for value in known})
        raise ValueError(f"is of {' and '.join(kinds)}; it must be numbers, text or booleans, and one of these")
    are_counts = all(isinstance(value, Integral) and 0 <= value <= np.iinfo(np.int64).max for value in known)
    if len(known) < len(values) and known and are_counts:
        return np.array([-1 if value is None else value for value in values], np.int64), "i"
    if len(known) < len(values):
        return np.array([np.nan if value is None else value for value in values], np.float64), "f"
    array = np.array(known)
    return array, array.dtype.kind


def as_label(
    values: Iterable[str | None], is_class: bool = False, decimal_comma: bool = False
) -> tuple[np.ndarray, list[str] | None]:
    """Text of a label -> numbers, and the words that they stand for.

    Args:
      values: A text for each thing; None, "" or another of `MISSING` where not known.
      is_class: Whether numbers are names of classes, too.
      decimal_comma: Whether "0,5" is a half.

    Returns:
      If all are numbers, float32 with NaN where not known, and None; otherwise int32 with -1 where not known, and the
      words in natural order.
    """
    values = [None if value is None or value.strip() in MISSING else value.strip() for value in values]
    if not is_class and (numbers := _numbers(values, decimal_comma)) is not None:
        return numbers, None
    words = sorted({value for value in values if value is not None}, key=natural_order if is_class else None)
    places = {word: place for place, word in enumerate(words)}
    return np.array([-1 if value is None else places[value] for value in values], np.int32), words


def _numbers(values: list[str | None], decimal_comma: bool) -> np.ndarray | None:
    """The values as float32; None: some are words, or what number they are cannot be told."""
    if decimal_comma and any(value and re.fullmatch(r"[-+]?\d*,\d+", value) for value in values):
        if any(value and "." in value for value in values):  # is 1.500 more than a thousand?
            return None
        values = [value and value.replace(",", ".") for value in values]
    try:
        numbers = np.array([as_number(value) for value in values], np.float64)
    except ValueError:
        return None
    rounded = numbers.astype(np.float32)
    whole = numbers[numbers == np.round(numbers)]
    is_exact = len(np.unique(whole)) == len(np.unique(whole.astype(np.float32)))  # not so for long numbers of things
    return rounded if is_exact else None


def as_number(value: str | None) -> float:
    """A number, NaN where it is not known, without end or beyond float32.

    Raises:
      ValueError: For words.
    """
    if value is None:
        return np.nan
    if "_" in value:  # a number in Python, but hardly one in a table
        raise ValueError(value)
    number = float(value)
    return number if abs(number) <= np.finfo(np.float32).max else np.nan
