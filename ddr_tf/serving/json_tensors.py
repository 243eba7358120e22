"""Requests and answers of TF Serving's REST API: JSON to tensors and back.

The forms are those of https://www.tensorflow.org/tfx/serving/api_rest. One thing differs: NaN, which JSON does not
have, is refused in a request and written as null in an answer.
"""

import base64
import binascii
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2

from ddr_tf.errors import UserError

try:
    import orjson
except ImportError as missing:
    raise UserError(f"The server needs orjson ({missing}); pip install -e '.[serving]'.") from missing


PIECE_VALUES, PIECE_BYTES = 2**15, 2**18  # of an answer


class Request(NamedTuple):
    """A request of a signature.

    Attributes:
      signature: Its name.
      tensors: Name of an input -> tensor.
      rows: Whether it came in the row format, one object a row.
    """

    signature: str
    tensors: dict[str, np.ndarray]
    rows: bool


def count_values(body: bytes | bytearray) -> tuple[int, int]:
    """How many values, and how many lists and objects, a body of JSON may have at most, by its commas and brackets.

    Parsed, a value takes 32 bytes and a list 72; so what is too large is known before it is parsed.
    """
    return body.count(b",") + body.count(b":") + 1, body.count(b"[") + body.count(b"{")


def parse(body: bytes | bytearray, inputs_of: Callable[[str], Mapping[str, Any]]) -> Request:
    """Reads a request.

    Args:
      body: JSON.
      inputs_of: `Servable.inputs`.

    Raises:
      UserError: If it cannot be understood.
    """
    document = _document(body)
    signature = document.get("signature_name") or "serving_default"
    if not isinstance(signature, str):
        raise UserError("'signature_name' key must be a string value.")
    infos = inputs_of(signature)
    types = {name: info.dtype for name, info in infos.items()}
    keys = [key for key in ("instances", "inputs") if key in document]
    if not keys:
        raise UserError("Missing 'inputs' or 'instances' key")
    if len(keys) == 2:
        raise UserError("Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist")
    rows = keys == ["instances"]
    whole = [name for name, info in infos.items() if not (info.tensor_shape.dim or info.tensor_shape.unknown_rank)]
    if rows and whole:
        raise UserError(f"{signature} takes one {min(whole)}, not one a row; use 'inputs' instead of 'instances'")
    columns = _columns(document["instances"], types) if rows else _named(document["inputs"], types, "'inputs' object")
    return Request(signature, {name: tensor(columns[name], name, dtype) for name, dtype in types.items()}, rows)


def _document(body: bytes | bytearray) -> dict[str, Any]:
    """The JSON object of a body."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UserError(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise UserError("JSON Value: Is not object")
    return document


def _columns(rows: Any, types: Mapping[str, int]) -> dict[str, list]:
    """Name of an input -> its values in all rows."""
    if not isinstance(rows, list) or not rows:
        raise UserError("Expecting 'instances' to be a list/array of at least one value")
    named = [_named(row, types, f"element {number} of 'instances' list") for number, row in enumerate(rows)]
    return {name: [row[name] for row in named] for name in types}


def _named(values: Any, types: Mapping[str, int], where: str) -> dict[str, Any]:
    """Name of an input -> its value, which need not be named if it is the only one."""
    if not isinstance(values, dict) or values.keys() == {"b64"}:
        if len(types) > 1:
            raise UserError(f"{where} must be an object with the keys {', '.join(sorted(types))}")
        return {next(iter(types)): values}
    if values.keys() != types.keys():
        required, given = (", ".join(sorted(names)) or "none" for names in (types, values))
        raise UserError(f"{where} must have the keys {required}; it has: {given}")
    return values


def tensor(value: Any, name: str, dtype: int) -> np.ndarray:
    """A tensor of parsed JSON.

    Args:
      value: A number or string, or lists of them, of equal lengths.
      name: What to call it in errors.
      dtype: DT_STRING, or the `types_pb2` value of a type of numbers.

    Returns:
      An array of that type; for DT_STRING an array of `bytes` objects.

    Raises:
      UserError: If it is something else.
    """
    if dtype == types_pb2.DT_STRING:
        array = np.array(value, dtype=object)
        return np.array([_bytes(text, name) for text in array.ravel()], dtype=object).reshape(array.shape)
    return _numbers(value, name, np.dtype(tf.as_dtype(dtype).as_numpy_dtype))


def _numbers(value: Any, name: str, dtype: np.dtype) -> np.ndarray:
    try:
        array = np.array(value)
    except ValueError as error:
        raise UserError(f"{name}: lists of unequal lengths ({error})") from error
    integers = dtype.kind == "i"
    if array.size and array.dtype.kind not in ("iu" if integers else "iuf"):
        raise UserError(f"{name} must be {'whole numbers' if integers else 'numbers'} and nothing else")
    if integers and array.size and not np.iinfo(dtype).min <= array.min() <= array.max() <= np.iinfo(dtype).max:
        raise UserError(f"{name} must be of type {dtype}; it has values beyond that")
    with np.errstate(over="ignore"):  # the signature refuses values that become infinite
        return array.astype(dtype)


def _bytes(value: Any, name: str) -> bytes:
    """A string: as it is, or `{"b64": "..."}`."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, ValueError) as error:
            raise UserError(f"{name}: unable to base64 decode ({error})") from error
    raise UserError(f'{name} must be strings or {{"b64": "..."}}, in lists of equal lengths')


def num_frames(tensors: Mapping[str, np.ndarray]) -> int:
    """The number of frames that go in or come out, whichever is larger."""
    if tensors.keys() >= {"count", "frames_per_sequence"}:
        return int(tensors["count"].max(initial=0)) * int(tensors["frames_per_sequence"].max(initial=0))
    # [B, N, H, W, C] frames, [B, N, Z] codes, [B, N] files
    counts = [
        array.shape[0] * array.shape[1]
        for array in tensors.values()
        if array.ndim >= (2 if array.dtype == object else 3)
    ]
    return max(counts, default=0)


def answer(outputs: Mapping[str, np.ndarray], rows: bool) -> list[bytes]:
    """The JSON of a signature's outputs, in pieces; float32 in as few digits as lead back to the same number.

    Raises:
      UserError: If it cannot be told row by row.
    """
    single = next(iter(outputs.values())) if len(outputs) == 1 else None
    if not rows:
        parts = _object(outputs) if single is None else _array(single)
        return _joined(_chain(b'{"outputs":', parts, b"}\n"))
    if len({len(array) for array in outputs.values()}) != 1:
        raise UserError("Outputs have no common batch dimension; use 'inputs' instead of 'instances'")
    if single is not None:
        return _joined(_chain(b'{"predictions":', _array(single), b"}\n"))
    named = (_object(dict(zip(outputs, row, strict=True))) for row in zip(*outputs.values(), strict=True))
    return _joined(_chain(b'{"predictions":[', _separated(named), b"]}\n"))


# Pieces of JSON. One call of orjson keeps all other threads waiting, so it never gets a whole answer.


def _array(array: np.ndarray) -> Iterator[bytes]:
    if array.ndim == 0 or array.size <= PIECE_VALUES:
        yield orjson.dumps(
            np.ascontiguousarray(array) if array.ndim else array.item(), option=orjson.OPT_SERIALIZE_NUMPY
        )
    else:
        yield from _chain(b"[", _separated(map(_array, array)), b"]")


def _object(arrays: Mapping[str, np.ndarray]) -> Iterator[bytes]:
    members = (_chain(orjson.dumps(name) + b":", _array(np.asarray(array))) for name, array in arrays.items())
    return _chain(b"{", _separated(members), b"}")


def _separated(items: Iterable[Iterable[bytes]]) -> Iterator[bytes]:
    for number, item in enumerate(items):
        if number:
            yield b","
        yield from item


def _chain(*parts: bytes | Iterable[bytes]) -> Iterator[bytes]:
    for part in parts:
        if isinstance(part, bytes):
            yield part
        else:
            yield from part


def _joined(pieces: Iterable[bytes]) -> list[bytes]:
    """The same in pieces of at least `PIECE_BYTES`, but for the last."""
    joined, part, size = [], [], 0
    for piece in pieces:
        part.append(piece)
        size += len(piece)
        if size >= PIECE_BYTES:
            joined.append(b"".join(part))
            part, size = [], 0
    return [*joined, b"".join(part)]


def to_json(document: Any) -> bytes:
    """A line of JSON; NumPy arrays become lists."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
