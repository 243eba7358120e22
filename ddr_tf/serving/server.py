"""A development server of one exported model: TF Serving's REST API, and the explorer at `/`.

    GET  /v1/models/NAME[/versions/V]              {"model_version_status": [...]}
    GET  /v1/models/NAME[/versions/V]/metadata     {"model_spec": ..., "metadata": {"signature_def": ...}}
    POST /v1/models/NAME[/versions/V]:predict      {"signature_name": ..., "instances" | "inputs": ...}
                                                   -> {"predictions" | "outputs": ...}

Errors are `{"error": "..."}`. The forms are those of https://www.tensorflow.org/tfx/serving/api_rest. It is one process
with one version, without batching or TLS: for one person at one machine. For anything else there is TF Serving.
"""

import asyncio
import collections
import contextlib
import os
import re
import signal
import socket
import traceback
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import json_format

from ddr_tf.errors import UserError
from ddr_tf.serving import examples
from ddr_tf.serving.connections import BACKLOG, Connections, max_connections
from ddr_tf.serving.json_tensors import Request, answer, count_values, num_frames, parse, to_json
from ddr_tf.serving.limits import MIB, Budget, BusyError, Hold, Limits
from ddr_tf.serving.saved_model import EXTRA
from ddr_tf.serving.servable import Servable

try:
    from aiohttp import web

    from ddr_tf.serving import guard
except ImportError as missing:
    raise UserError(f"The server needs aiohttp ({missing}); pip install -e '.[serving]'.") from missing

Result = TypeVar("Result")

EXPLORER = Path(__file__).parent / "explorer"
PAGES = {"": "index.html"} | {path.name: path.name for path in EXPLORER.glob("*.[cj]s*")}
KEPT_ALIVE_SECONDS = 75
VERSION = r"{version:[0-9]{1,19}}"
EXAMPLE = r"{file:[AB]-[0-9]{1,3}\.png|examples\.json}"
CONNECTIONS = web.AppKey("connections", Connections)
DEFAULT_LIMITS = Limits()
# Memory that a request takes: a parsed value, a parsed list, and a number of the answer as float32 (twice) and JSON.
VALUE_BYTES, LIST_BYTES, OUTPUT_BYTES = 32, 80, 24


class NotFoundError(Exception):
    """A model or a version that does not exist; status 404."""


class LateError(Exception):
    """Something that did not come in time.

    Attributes:
      status: 408 or 504.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _reply(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")


def _error(status: int, message: str) -> web.Response:
    return _reply(to_json({"error": message}), status)


@web.middleware
async def _errors_as_json(request: web.Request, handler: Callable) -> web.StreamResponse:
    """What goes wrong, in TF Serving's form."""
    try:
        return await handler(request)
    except UserError as error:
        return _error(400, str(error))
    except NotFoundError as error:
        return _error(404, str(error))
    except (LateError, guard.RefusedError) as error:
        return _error(error.status, str(error))
    except BusyError as error:
        return _error(503, str(error))
    except web.HTTPException as error:
        return _http_error(request, error)
    except (web.RequestPayloadError, ConnectionError) as error:  # nobody will read the latter
        return _error(400, f"The body cannot be read: {error}")
    except Exception as error:
        traceback.print_exception(error)
        return _error(500, f"This is a mistake of the server: {type(error).__name__}: {error}")


def _http_error(request: web.Request, error: web.HTTPException) -> web.Response:
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return _error(413, f"The request is too large: {error.text}")
    response = _error(error.status, f"Malformed request: {request.method} {request.path} ({error.reason})")
    if isinstance(error, web.HTTPMethodNotAllowed):
        response.headers["Allow"] = error.headers["Allow"]
    return response


class Api:
    """The answers to requests for one model."""

    def __init__(self, servable: Servable, limits: Limits, connections: Connections) -> None:
        self._servable, self._limits, self._connections = servable, limits, connections
        self._examples = servable.directory / EXTRA / examples.FOLDER
        self._cores = os.cpu_count() or 1
        threads = max(2, self._cores)
        self._workers, self._lanes = ThreadPoolExecutor(threads, "predict"), _Lanes(threads)
        # Of large and of small requests, which so need not wait for those.
        self._parsers = ThreadPoolExecutor(1, "parse_large"), ThreadPoolExecutor(1, "parse_small")
        self._budget = Budget(limits.held_bytes)
        # Requests that wait or are computed: how many keep each in its place, itself and threads that work for it.
        self._pending: collections.Counter[Hold] = collections.Counter()
        self._large: set[Hold] = set()  # those of them that are large

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

    async def predict(self, request: web.Request) -> web.StreamResponse:
        """Runs a signature in a thread, and sends what it returns."""
        self._check_spec(request)
        hold, body = Hold(self._budget), bytearray()
        try:
            await self._receive(request, hold, body)
            with self._connections.answering(request.protocol):
                return await self._send(request, await self._answer_in_time(body, hold))
        finally:
            body.clear()  # now, and not when the last frame that names it has gone
            hold.let_go()

    async def _receive(self, request: web.Request, hold: Hold, body: bytearray) -> None:
        """Appends what arrives to the body; the request holds it as far as it has arrived."""
        try:
            async with asyncio.timeout(self._limits.seconds):
                async for chunk in request.content.iter_any():
                    if len(body) + len(chunk) > self._limits.body_bytes:
                        raise web.HTTPRequestEntityTooLarge(self._limits.body_bytes)
                    hold.grow_now(len(chunk))
                    body += chunk
        except TimeoutError as error:
            raise LateError(408, f"The body did not arrive within {self._limits.seconds:g} seconds") from error

    async def _answer_in_time(self, body: bytearray, hold: Hold) -> list[bytes]:
        """The answer in pieces."""
        try:
            async with asyncio.timeout(self._limits.seconds):
                return await self._answer(body, hold)
        except TimeoutError as error:
            raise LateError(504, f"There was no answer within {self._limits.seconds:g} seconds") from error

    async def _answer(self, body: bytearray, hold: Hold) -> list[bytes]:
        """Parses, computes and writes JSON, holding at each time what that takes."""
        values, lists = count_values(body)
        self._check_count(values, self._limits.values, "values")
        self._check_count(lists, self._limits.lists, "lists and objects")
        await hold.resize(len(body) + VALUE_BYTES * values + LIST_BYTES * lists)
        parser = self._parsers[hold.is_small]
        wanted = await self._in_thread(parser, hold, lambda: None, parse, body, self._servable.inputs)
        body.clear()
        size = sum(array.nbytes for array in wanted.tensors.values()) + self._answer_bytes(wanted)
        self._take_place(hold, self._budget.is_small(size))
        try:
            await hold.resize(size)
            pieces = await self._compute(hold, wanted)
        finally:
            self._leave(hold)
        await hold.resize(sum(map(len, pieces)))
        return pieces

    def _take_place(self, hold: Hold, small: bool) -> None:
        """Takes one of the places for requests that wait or are computed, of which large ones get half."""
        places = self._cores + self._limits.waiting
        if len(self._pending) >= places:
            raise BusyError(f"{len(self._pending)} requests are being answered or waiting; try again later")
        if not small:
            if len(self._large) >= max(1, places // 2):
                raise BusyError(f"{len(self._large)} large requests are being answered or waiting; try again later")
            self._large.add(hold)
        self._pending[hold] += 1

    def _check_count(self, count: int, most: int, name: str) -> None:
        if count > most:
            raise UserError(f"The request has {count} {name}; at most {most} are possible at once")

    def _answer_bytes(self, wanted: Request) -> int:
        """Bytes that a request will take at most while it is answered.

        Raises:
          UserError: If it is for more frames than are possible.
        """
        frame_bytes = OUTPUT_BYTES * self._servable.values_per_frame(wanted.signature)
        most = min(self._limits.frames, self._budget.max_request // max(1, frame_bytes))
        asked = num_frames(wanted.tensors)
        if asked > most:
            raise UserError(f"The request is for {asked} frames; at most {most} are possible at once")
        return asked * frame_bytes

    def _computed(self, wanted: Request) -> list[bytes]:
        return answer(self._servable(wanted.signature, wanted.tensors), wanted.rows)

    async def _compute(self, hold: Hold, wanted: Request) -> list[bytes]:
        """The answer, computed in a thread when one is free. Once begun it keeps its place until it ends."""
        small = hold.is_small
        await self._lanes.enter(small)
        self._pending[hold] += 1

        def ended() -> None:
            self._lanes.leave(small)
            self._leave(hold)

        return await self._in_thread(self._workers, hold, ended, self._computed, wanted)

    async def _in_thread(
        self,
        pool: ThreadPoolExecutor,
        hold: Hold,
        ended: Callable[[], None],
        function: Callable[..., Result],
        *arguments: Any,
    ) -> Result:
        """Calls a function in a thread, which keeps what the request holds until it ends."""
        loop = asyncio.get_running_loop()

        def let_go() -> None:
            ended()
            hold.let_go()

        def end(_: Future) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(let_go)

        hold.share()
        work = pool.submit(function, *arguments)
        work.add_done_callback(end)
        try:
            return await asyncio.wrap_future(work)
        finally:
            del work, arguments  # or an error, its traceback and this frame would hold each other, and the body

    def _leave(self, hold: Hold) -> None:
        """Frees one place of those that keep a request alive."""
        self._pending[hold] -= 1
        if not self._pending[hold]:
            del self._pending[hold]
            self._large.discard(hold)

    async def _send(self, request: web.Request, pieces: list[bytes]) -> web.StreamResponse:
        """Sends JSON as fast as the client reads; one that reads too slowly is cut off."""
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        size = response.content_length = sum(map(len, pieces))
        with contextlib.suppress(ConnectionError):  # the client has gone
            try:
                async with asyncio.timeout(self._limits.stalled_seconds + size / MIB):
                    await response.prepare(request)
                    for number in range(len(pieces) - 1):
                        await response.write(pieces[number])
                        pieces[number] = b""
                    await response.write_eof(pieces[-1])  # unlike `write`, it waits for short pieces, too
            except TimeoutError:
                if request.transport:
                    request.transport.abort()
        return response

    async def models(self, request: web.Request) -> web.Response:
        """The names of all models, and of those with example frames, which TF Serving cannot tell the explorer."""
        names = [self._servable.name]
        has_examples = (self._examples / examples.INDEX).is_file()
        return _reply(to_json({"models": names} | ({"examples": names} if has_examples else {})))

    async def page(self, request: web.Request) -> web.FileResponse:
        """A file of the explorer."""
        headers = {"Cache-Control": "no-cache"}
        return web.FileResponse(EXPLORER / PAGES[request.path.removeprefix("/")], headers=headers)

    async def example(self, request: web.Request) -> web.FileResponse:
        """An example frame of the model, or the list of them."""
        self._check_spec(request)
        path = self._examples / request.match_info["file"]
        if not path.is_file():
            raise NotFoundError("The exported model has no example frames")
        return web.FileResponse(path, headers={"Cache-Control": "no-cache"})

    async def close(self, app: web.Application) -> None:
        """Drops work that has not begun."""
        for pool in (self._workers, *self._parsers):
            pool.shutdown(wait=False, cancel_futures=True)

    def _check_spec(self, request: web.Request) -> None:
        """Raises `NotFoundError` unless the request is for this model, and for no other version."""
        name, version = request.match_info["name"], request.match_info.get("version")
        if name != self._servable.name:
            raise NotFoundError(f"Servable not found for request: Latest({name}); there is: {self._servable.name}")
        if version is not None and int(version) != self._servable.version:
            only = f"there is version {self._servable.version}"
            raise NotFoundError(f"Servable not found for request: Specific({name}, {version}); {only}")


class _Lanes:
    """Threads: all of them for small requests, all but one for large ones."""

    def __init__(self, threads: int) -> None:
        """Args: threads: At least 2."""
        self._all, self._large = asyncio.Semaphore(threads), asyncio.Semaphore(threads - 1)

    async def enter(self, small: bool) -> None:
        """Waits until a thread is free."""
        if not small:
            await self._large.acquire()
        try:
            await self._all.acquire()
        except BaseException:
            if not small:
                self._large.release()
            raise

    def leave(self, small: bool) -> None:
        """Frees a thread."""
        self._all.release()
        if not small:
            self._large.release()


def application(
    servable: Servable, limits: Limits = DEFAULT_LIMITS, hosts: Collection[str] = guard.LOCAL_HOSTS
) -> web.Application:
    """The server, to be run by `run`; `aiohttp.web` would run it without limits on connections.

    Args:
      servable: The model.
      limits: What requests may ask for.
      hosts: Names that the server is known by; others are refused.
    """
    connections = Connections(max_connections(), limits.stalled_seconds)
    api = Api(servable, limits, connections)
    app = web.Application(middlewares=[_errors_as_json, _followed(connections), guard.checked(hosts)])
    app[CONNECTIONS] = connections
    app.on_response_prepare.append(guard.add_headers)
    name = f"{{name:{re.escape(servable.name)}|[^/:]+}}"  # only the name of this model may contain a colon
    for model in (f"/v1/models/{name}", f"/v1/models/{name}/versions/{VERSION}"):
        app.router.add_get(model, api.status)
        app.router.add_get(f"{model}/metadata", api.metadata)
        app.router.add_post(f"{model}:predict", api.predict)
    app.router.add_get("/models.json", api.models)
    app.router.add_get(f"/examples/{name}/{EXAMPLE}", api.example)
    for path in PAGES:
        app.router.add_get(f"/{path}", api.page)
    app.on_cleanup.append(api.close)
    return app


def _followed(connections: Connections) -> Callable:
    @web.middleware
    async def middleware(request: web.Request, handler: Callable) -> web.StreamResponse:
        connections.touch(request.protocol)
        return await handler(request)

    return middleware


@contextlib.asynccontextmanager
async def serving(app: web.Application, listener: socket.socket, drain_seconds: float) -> AsyncIterator[None]:
    """While it is open, requests are answered; at its end, those that have arrived.

    Args:
      app: What `application` gives.
      listener: A bound socket.
      drain_seconds: To wait at most for what is being answered.
    """
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=KEPT_ALIVE_SECONDS, shutdown_timeout=drain_seconds)
    await runner.setup()
    connections = app[CONNECTIONS]
    factory = connections.factory(runner.server)
    server = await asyncio.get_running_loop().create_server(factory, sock=listener, backlog=BACKLOG)
    sweeping = asyncio.create_task(connections.sweep())
    try:
        yield
    finally:
        server.close()
        await runner.cleanup()
        sweeping.cancel()
        connections.drop_all()


async def run(app: web.Application, listener: socket.socket, drain_seconds: float) -> None:
    """Answers requests, as `serving`, until the process gets SIGTERM or SIGINT; a second signal ends it at once."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()

    def stop(number: int) -> None:
        if stopped.is_set():
            os._exit(128 + number)  # threads that compute cannot be stopped
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(number, stop, number)
    async with serving(app, listener, drain_seconds):
        await stopped.wait()
