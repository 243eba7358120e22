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
import os
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from google.protobuf import json_format

from ddr_tf.errors import UserError
from ddr_tf.serving.json_tensors import answer, num_frames, parse, to_json
from ddr_tf.serving.servable import Servable

try:
    from aiohttp import web
except ImportError as missing:
    raise UserError(f"The server needs aiohttp ({missing}); pip install -e '.[serving]'.") from missing

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


class NotFoundError(Exception):
    """A model or a version that there is not; status 404."""


def _reply(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")


def _error(status: int, message: str) -> web.Response:
    return _reply(to_json({"error": message}), status)


@web.middleware
async def _errors_as_json(request: web.Request, handler: Callable) -> web.StreamResponse:
    """What goes wrong, in TF Serving's form."""
    try:
        response = await handler(request)
    except UserError as error:
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
        return _reply(to_json({"model_version_status": [version]}))

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
        return _reply(to_json({"model_spec": spec, "metadata": metadata}))

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
        return _reply(to_json({"models": [self._servable.name]}))

    async def page(self, request: web.Request) -> web.FileResponse:
        """A file of the explorer."""
        headers = {"Cache-Control": "no-cache"}
        return web.FileResponse(EXPLORER / PAGES[request.path.removeprefix("/")], headers=headers)

    async def close(self, app: web.Application) -> None:
        """Lets go of work that has not begun."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _predict(self, body: bytes) -> bytes:
        wanted = parse(body, self._servable.inputs)
        asked = num_frames(wanted.tensors)
        if asked > self._limits.frames:
            raise UserError(f"The request is for {asked} frames; at most {self._limits.frames} are possible at once")
        return answer(self._servable(wanted.signature, wanted.tensors), wanted.rows)

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
