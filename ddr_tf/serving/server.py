"""A development server of one exported model: TF Serving's REST API, and the explorer at `/`.

    GET  /v1/models/NAME[/versions/V]              {"model_version_status": [...]}
    GET  /v1/models/NAME[/versions/V]/metadata     {"model_spec": ..., "metadata": {"signature_def": ...}}
    POST /v1/models/NAME[/versions/V]:predict      {"signature_name": ..., "instances" | "inputs": ...}
                                                   -> {"predictions" | "outputs": ...}

Errors are `{"error": "..."}`. The forms are those of https://www.tensorflow.org/tfx/serving/api_rest; the one
difference is that NaN, which JSON does not have, is refused, and written as null. One process, one version, no
batching, no TLS: for one person at one machine. For anything else there is TF Serving.
"""

import asyncio
import base64
import binascii
import os
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from ddr_tf.errors import UserError
from ddr_tf.serving.saved_model import find_saved_model

try:
    import orjson
    from aiohttp import web
except ImportError as missing:
    raise UserError(f"The server needs aiohttp and orjson ({missing}); pip install -e '.[serving]'.") from missing

EXPLORER = Path(__file__).parent / "explorer"
PAGES = {"": "index.html"} | {name: name for name in ("explorer.css", "explorer.js")}
KEPT_ALIVE_SECONDS = 75
NAME, VERSION = r"{name:[^/:]+}", r"{version:\d+}"


class Limits(NamedTuple):
    """What a request may ask for.

    Attributes:
      body_bytes: Size of a request, unpacked where it came compressed.
      frames: Frames that go in, or come out, at once; bounds memory, since a few bytes can ask for many frames.
      seconds: For its body to arrive, and again until it is answered.
      waiting: Requests that wait while as many are computed as there are cores.
    """

    body_bytes: int = 32 * 2**20
    frames: int = 1024
    seconds: float = 60
    waiting: int = 32


DEFAULT_LIMITS = Limits()


class BadRequestError(Exception):
    """What the client has to change; status 400."""


class NotFoundError(Exception):
    """A model or a version that there is not; status 404."""


class Servable:
    """A loaded version of an exported model.

    Attributes:
      name, version: As in `saved_models/<name>/<version>`; 1 for a SavedModel in a folder of another kind of name.
      signature_def: Signature -> names, types and shapes, as the SavedModel has them.
    """

    def __init__(self, directory: Path) -> None:
        """Loads it.

        Args:
          directory: `saved_models/<name>`, for its newest version, or `saved_models/<name>/<version>`.

        Raises:
          UserError: If it cannot be loaded.
        """
        found = find_saved_model(directory.absolute())
        numbered = found.name.isdecimal()
        self.name, self.version = (found.parent.name, int(found.name)) if numbered else (found.name, 1)
        try:
            saved = saved_model_pb2.SavedModel.FromString((found / "saved_model.pb").read_bytes())
            self._loaded = tf.saved_model.load(str(found))  # signatures live as long as this does
        except Exception as error:  # of whatever type; a damaged file can lead to any
            raise UserError(f"{found} cannot be loaded ({type(error).__name__}: {error}).") from error
        self.signature_def = saved.meta_graphs[0].signature_def

    def inputs(self, signature: str) -> Mapping[str, meta_graph_pb2.TensorInfo]:
        """Name of an input -> its type.

        Raises:
          BadRequestError: If there is no such signature.
        """
        if signature not in self._loaded.signatures:
            raise BadRequestError(
                f'Serving signature name: "{signature}" not found in signature def; there are: '
                f"{', '.join(sorted(self._loaded.signatures))}"
            )
        return self.signature_def[signature].inputs

    def __call__(self, signature: str, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a signature.

        Raises:
          BadRequestError: With what its own checks say.
        """
        try:
            outputs = self._loaded.signatures[signature](**{name: tf.constant(each) for name, each in tensors.items()})
        except (tf.errors.InvalidArgumentError, tf.errors.ResourceExhaustedError) as error:
            # Without what TensorFlow puts before and behind it outside of TF Serving.
            raise BadRequestError(error.message.split("<stack traces unavailable>\n")[-1].split(" [Op:")[0]) from error
        return {name: value.numpy() for name, value in outputs.items()}


# JSON to tensors and back


def parse(body: bytes, inputs_of: Callable[[str], Mapping[str, Any]]) -> tuple[str, dict[str, np.ndarray], bool]:
    """A request.

    Args:
      body: JSON.
      inputs_of: `Servable.inputs`.

    Returns:
      Name of the signature; name of an input -> tensor; whether it was in the row format, one object a row.

    Raises:
      BadRequestError: If it cannot be understood.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequestError(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise BadRequestError("JSON Value: Is not object")
    signature = document.get("signature_name") or "serving_default"
    if not isinstance(signature, str):
        raise BadRequestError("'signature_name' key must be a string value.")
    types = {name: info.dtype for name, info in inputs_of(signature).items()}
    keys = [key for key in ("instances", "inputs") if key in document]
    if not keys:
        raise BadRequestError("Missing 'inputs' or 'instances' key")
    if len(keys) == 2:
        raise BadRequestError("Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist")
    rows = keys == ["instances"]
    columns = _columns(document["instances"], types) if rows else _named(document["inputs"], types, "'inputs' object")
    return signature, {name: tensor(columns[name], name, dtype) for name, dtype in types.items()}, rows


def _columns(rows: Any, types: Mapping[str, int]) -> dict[str, list]:
    """Name of an input -> its values in all rows."""
    if not isinstance(rows, list) or not rows:
        raise BadRequestError("Expecting 'instances' to be a list/array of at least one value")
    named = [_named(row, types, f"element {number} of 'instances' list") for number, row in enumerate(rows)]
    return {name: [row[name] for row in named] for name in types}


def _named(values: Any, types: Mapping[str, int], where: str) -> dict[str, Any]:
    """Name of an input -> its value, which need not be named if it is the only one."""
    if not isinstance(values, dict) or values.keys() == {"b64"}:
        if len(types) > 1:
            raise BadRequestError(f"{where} must be an object with the keys {', '.join(sorted(types))}")
        return {next(iter(types)): values}
    if values.keys() != types.keys():
        wanted, found = (", ".join(sorted(names)) or "none" for names in (types, values))
        raise BadRequestError(f"{where} must have the keys {wanted}; it has: {found}")
    return values


def tensor(value: Any, name: str, dtype: int) -> np.ndarray:
    """A tensor of parsed JSON.

    Args:
      value: A number or string, or lists of them, of equal lengths.
      name: What to call it.
      dtype: DT_STRING, or the `types_pb2` value of a type of numbers.

    Returns:
      Of that type; of objects of type `bytes` for DT_STRING.

    Raises:
      BadRequestError: If it is something else.
    """
    if dtype == types_pb2.DT_STRING:
        array = np.array(value, dtype=object)
        return np.array([_bytes(each, name) for each in array.ravel()], dtype=object).reshape(array.shape)
    wanted = np.dtype(tf.as_dtype(dtype).as_numpy_dtype)
    try:
        array = np.array(value)
    except ValueError as error:
        raise BadRequestError(f"{name}: lists of unequal lengths ({error})") from error
    whole = wanted.kind == "i"
    if array.size and array.dtype.kind not in ("iu" if whole else "iuf"):
        raise BadRequestError(f"{name} must be {'whole numbers' if whole else 'numbers'} and nothing else")
    if whole and array.size and not np.iinfo(wanted).min <= array.min() <= array.max() <= np.iinfo(wanted).max:
        raise BadRequestError(f"{name} must be of type {wanted}; it has values beyond that")
    with np.errstate(over="ignore"):  # becomes infinite, which the signature refuses
        return array.astype(wanted)


def _bytes(value: Any, name: str) -> bytes:
    """A string: as it is, or `{"b64": "..."}`."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadRequestError(f"{name}: unable to base64 decode ({error})") from error
    raise BadRequestError(f'{name} must be strings or {{"b64": "..."}}, in lists of equal lengths')


def num_frames(tensors: Mapping[str, np.ndarray]) -> int:
    """How many frames the largest of these tensors gives, or takes."""
    if tensors.keys() >= {"count", "frames_per_sequence"}:
        return int(tensors["count"].max(initial=0)) * int(tensors["frames_per_sequence"].max(initial=0))
    # [B, N, H, W, C] frames, [B, N, Z] codes, [B, N] files
    most = [
        each.shape[0] * each.shape[1] for each in tensors.values() if each.ndim >= (2 if each.dtype == object else 3)
    ]
    return max(most, default=0)


def answer(outputs: Mapping[str, np.ndarray], rows: bool) -> bytes:
    """JSON of what a signature returned; float32 in as few digits as lead back to the same number.

    Raises:
      BadRequestError: If it cannot be told row by row.
    """
    single = next(iter(outputs.values())) if len(outputs) == 1 else None
    if not rows:
        return _json({"outputs": outputs if single is None else single})
    if len({len(each) for each in outputs.values()}) != 1:
        raise BadRequestError("Outputs have no common batch dimension; use 'inputs' instead of 'instances'")
    if single is not None:
        return _json({"predictions": single})
    named = [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
    return _json({"predictions": named})


def _json(document: Any) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


# HTTP


def _reply(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")


def _error(status: int, message: str) -> web.Response:
    return _reply(_json({"error": message}), status)


@web.middleware
async def _errors_as_json(request: web.Request, handler: Callable) -> web.StreamResponse:
    """What goes wrong, in TF Serving's form."""
    try:
        response = await handler(request)
    except BadRequestError as error:
        response = _error(400, str(error))
    except NotFoundError as error:
        response = _error(404, str(error))
    except web.HTTPRequestEntityTooLarge as error:
        response = _error(413, f"The request is too large: {error.text}")
    except web.HTTPException as error:
        response = _error(error.status, f"Malformed request: {request.method} {request.path} ({error.reason})")
        if isinstance(error, web.HTTPMethodNotAllowed):
            response.headers["Allow"] = error.headers["Allow"]
    except web.RequestPayloadError as error:
        response = _error(400, f"The body cannot be read: {error}")
    except Exception as error:
        traceback.print_exception(error)
        response = _error(500, f"This is a mistake of the server: {type(error).__name__}: {error}")
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


class Api:
    """The answers to requests for one model."""

    def __init__(self, servable: Servable, limits: Limits) -> None:
        self._servable, self._limits = servable, limits
        self._cores = os.cpu_count() or 1
        self._workers = ThreadPoolExecutor(self._cores, "predict")
        self._pending = 0

    async def status(self, request: web.Request) -> web.Response:
        """The one version that there is."""
        self._check_spec(request)
        status = {"error_code": "OK", "error_message": ""}
        version = {"version": str(self._servable.version), "state": "AVAILABLE", "status": status}
        return _reply(_json({"model_version_status": [version]}))

    async def metadata(self, request: web.Request) -> web.Response:
        """Names, types and shapes of what signatures take and return."""
        self._check_spec(request)
        fields = dict(preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        signatures = {
            name: json_format.MessageToDict(signature, **fields)
            for name, signature in self._servable.signature_def.items()
        }
        map_type = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
        spec = {"name": self._servable.name, "signature_name": "", "version": str(self._servable.version)}
        metadata = {"signature_def": {"@type": map_type, "signature_def": signatures}}
        return _reply(_json({"model_spec": spec, "metadata": metadata}))

    async def predict(self, request: web.Request) -> web.Response:
        """Runs a signature in one of as many threads as there are cores."""
        self._check_spec(request)
        if self._pending >= self._cores + self._limits.waiting:
            return _error(503, f"{self._pending} requests are being answered or waiting; try again later")
        self._pending += 1  # before anything is awaited, and until the work has ended, even if nobody waits for it
        loop = asyncio.get_running_loop()

        def ended(_: Future | None = None) -> None:
            self._pending -= 1

        try:
            body = await asyncio.wait_for(request.read(), self._limits.seconds)
            work = self._workers.submit(self._predict, body)
        except TimeoutError:
            ended()
            return _error(408, f"The body did not arrive within {self._limits.seconds:g} seconds")
        except BaseException:
            ended()
            raise
        work.add_done_callback(lambda _: loop.call_soon_threadsafe(ended))
        try:
            return _reply(await asyncio.wait_for(asyncio.wrap_future(work), self._limits.seconds))
        except TimeoutError:
            return _error(504, f"There was no answer within {self._limits.seconds:g} seconds")

    async def models(self, request: web.Request) -> web.Response:
        """Which model there is; TF Serving cannot tell, so the explorer reads it from this file beside it."""
        return _reply(_json({"models": [self._servable.name]}))

    async def page(self, request: web.Request) -> web.FileResponse:
        """A file of the explorer."""
        headers = {"Cache-Control": "no-cache"}
        return web.FileResponse(EXPLORER / PAGES[request.path.removeprefix("/")], headers=headers)

    async def close(self, app: web.Application) -> None:
        """Lets go of work that has not begun."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _predict(self, body: bytes) -> bytes:
        signature, tensors, rows = parse(body, self._servable.inputs)
        asked = num_frames(tensors)
        if asked > self._limits.frames:
            raise BadRequestError(
                f"The request is for {asked} frames; at most {self._limits.frames} are possible at once"
            )
        return answer(self._servable(signature, tensors), rows)

    def _check_spec(self, request: web.Request) -> None:
        """Raises `NotFoundError` unless the request is for this model, and for no other version."""
        name, version = request.match_info["name"], request.match_info.get("version")
        if name != self._servable.name:
            raise NotFoundError(f"Servable not found for request: Latest({name}); there is: {self._servable.name}")
        if version is not None and int(version) != self._servable.version:
            there_is = f"there is version {self._servable.version}"
            raise NotFoundError(f"Servable not found for request: Specific({name}, {version}); {there_is}")


def application(servable: Servable, limits: Limits = DEFAULT_LIMITS) -> web.Application:
    """The server, to be run by `aiohttp.web`."""
    api = Api(servable, limits)
    app = web.Application(middlewares=[_errors_as_json], client_max_size=limits.body_bytes)
    for model in (f"/v1/models/{NAME}", f"/v1/models/{NAME}/versions/{VERSION}"):
        app.router.add_get(model, api.status)
        app.router.add_get(f"{model}/metadata", api.metadata)
        app.router.add_post(f"{model}:predict", api.predict)
    app.router.add_get("/models.json", api.models)
    for path in PAGES:
        app.router.add_get(f"/{path}", api.page)
    app.on_cleanup.append(api.close)
    return app
