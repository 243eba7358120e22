"""The development server, over HTTP, against the model itself."""

import asyncio
import base64
import contextlib
import gzip
import io
import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
from PIL import Image

from conftest import running
from ddr_tf.serving.client import Client
from ddr_tf.serving.limits import Limits
from ddr_tf.serving.servable import Servable
from ddr_tf.serving.server import EXPLORER, PAGES, application, serving

random = np.random.RandomState(0)
FRAMES = random.uniform(size=(2, 3, 16, 16, 3)).astype(np.float32)
STATIC = random.normal(size=(2, 4)).astype(np.float32)
DYNAMIC = random.normal(size=(2, 5, 2)).astype(np.float32)
SEED = dict(count=3, frames_per_sequence=2, seed=[4, 5])
ZEROS = [[0, 0, 0, 0]]


def encoded(pixels, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return {"b64": base64.b64encode(file.getvalue()).decode()}


FILES = [[encoded((frame * 255).astype(np.uint8)) for frame in frames] for frames in FRAMES]

REQUESTS = {
    "serving_default": dict(frames=FRAMES.tolist()),
    "encode": dict(frames=FRAMES.tolist()),
    "encode_bytes": dict(encoded_frames=FILES),
    "encode_dynamic": dict(frames=FRAMES.tolist(), static=STATIC.tolist()),
    "decode": dict(static=STATIC.tolist(), dynamic=DYNAMIC.tolist()),
    "reconstruct": dict(frames=FRAMES.tolist()),
    "swap": dict(static_frames=FRAMES.tolist(), dynamic_frames=FRAMES[:, :1].tolist()),
    "prior": dict(static=STATIC.tolist()),
    "sample": SEED,
    "sample_standard": SEED,
}


def predict(url, body, version="", **options):
    data = body if isinstance(body, bytes) else json.dumps(body)
    return requests.post(f"{url}/v1/models/puppets{version}:predict", data=data, timeout=60, **options)


def asked(signature, **inputs):
    return {"signature_name": signature, "inputs": inputs}


def expected(servable, signature):
    def tensor(name, value):
        if name == "encoded_frames":
            return np.array([[base64.b64decode(file["b64"]) for file in row] for row in value], object)
        return np.array(value, np.int32 if signature.startswith("sample") else np.float32)

    return servable(signature, {name: tensor(name, value) for name, value in REQUESTS[signature].items()})


@pytest.mark.parametrize("signature", REQUESTS)
def test_both_formats_are_the_model_to_the_last_bit(server_url, servable, signature):
    wanted = expected(servable, signature)
    found = predict(server_url, {"signature_name": signature, "inputs": REQUESTS[signature]}).json()["outputs"]
    for name, value in (found if len(wanted) > 1 else {next(iter(wanted)): found}).items():
        np.testing.assert_array_equal(np.array(value, np.float32), wanted[name], err_msg=name)
    if signature.startswith("sample"):  # its inputs are no rows
        return
    columns = REQUESTS[signature]
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    found = predict(server_url, {"signature_name": signature, "instances": rows}).json()["predictions"]
    assert len(found) == 2
    for number, row in enumerate(found):
        for name, value in (row if len(wanted) > 1 else {next(iter(wanted)): row}).items():
            np.testing.assert_array_equal(np.array(value, np.float32), wanted[name][number], err_msg=name)


def test_a_single_input_needs_no_name_and_encode_is_the_default(server_url):
    for key in ("instances", "inputs"):
        named, single = {"frames": FRAMES.tolist()}, FRAMES.tolist()
        if key == "instances":
            named = [{"frames": row} for row in single]
        answers = [
            predict(server_url, {key: value, **extra})
            for value in (named, single)
            for extra in ({}, {"signature_name": "encode"})
        ]
        assert len({reply.text for reply in answers}) == 1
        assert answers[0].status_code == 200


@pytest.mark.parametrize("version", ["", "/versions/3"])
def test_status_and_metadata(server_url, servable, version):
    url = f"{server_url}/v1/models/puppets{version}"
    status = {"error_code": "OK", "error_message": ""}
    assert requests.get(url, timeout=9).json() == {
        "model_version_status": [{"version": "3", "state": "AVAILABLE", "status": status}]
    }
    found = requests.get(f"{url}/metadata", timeout=9).json()
    assert found["model_spec"] == {"name": "puppets", "signature_name": "", "version": "3"}
    signatures = found["metadata"]["signature_def"]["signature_def"]
    assert signatures.keys() >= REQUESTS.keys()
    shape = [{"size": size, "name": ""} for size in ("-1", "-1", "16", "16", "3")]
    assert signatures["decode"]["outputs"]["frames"] == {
        "name": servable.signature_def["decode"].outputs["frames"].name,
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": shape, "unknown_rank": False},
    }
    assert signatures["sample"]["inputs"]["count"]["tensor_shape"] == {"dim": [], "unknown_rank": False}
    assert predict(server_url, {"inputs": FRAMES.tolist()}, version).status_code == 200


# body, what the error says
WRONG = {
    "nothing": (b"", "JSON Parse error"),
    "no JSON": (b"{", "JSON Parse error"),
    "not UTF-8": (b'{"signature_name": "\xff"}', "JSON Parse error"),
    "NaN": (b'{"inputs": [NaN]}', "JSON Parse error"),
    "deeper than parsed": (b"[" * 5000 + b"]" * 5000, "JSON Parse error"),
    "deeper than tensors": (b'{"inputs": ' + b"[" * 900 + b"]" * 900 + b"}", "frames: lists of unequal lengths"),
    "deep files": (
        b'{"signature_name": "encode_bytes", "inputs": ' + b"[" * 900 + b"]" * 900 + b"}",
        'encoded_frames must be strings or {"b64"',
    ),
    "a list": ([1], "Is not object"),
    "no signature": (asked("style"), '"style" not found in signature def; there are: decode, encode'),
    "no name": (asked(3), "'signature_name' key must be a string"),
    "an internal one": (asked("__saved_model_init_op"), "not found in signature def"),
    "no input": ({"signature_name": "prior"}, "Missing 'inputs' or 'instances' key"),
    "both": ({"signature_name": "prior", "inputs": ZEROS, "instances": ZEROS}, "expecting only one of"),
    "no rows": ({"signature_name": "prior", "instances": []}, "at least one value"),
    "rows in an object": ({"signature_name": "prior", "instances": {"static": ZEROS}}, "to be a list/array"),
    "one missing": (asked("decode", static=ZEROS), "must have the keys dynamic, static; it has: static"),
    "one missing in a row": (
        {"signature_name": "decode", "instances": [{"static": ZEROS[0]}]},
        "element 0 of 'instances' list must have the keys",
    ),
    "one too many": (asked("prior", static=ZEROS, dynamic=ZEROS), "must have the keys static; it has: dynamic, static"),
    "names missing": ({"signature_name": "decode", "inputs": ZEROS}, "must be an object with the keys"),
    "words": (asked("prior", static=[["a", 0, 0, 0]]), "static must be numbers"),
    "null": (asked("prior", static=None), "static must be numbers"),
    "ragged": (asked("prior", static=[[0, 0], [0]]), "static: lists of unequal lengths"),
    "fractions": (asked("sample", **SEED | dict(count=1.5)), "count must be whole numbers"),
    "large integers": (asked("sample", **SEED | dict(count=2**31)), "count must be of type int32"),
    "infinite": (asked("prior", static=[[1e39, 0, 0, 0]]), "static must be finite"),
    "another shape": (asked("prior", static=[[0, 0]]), "static must have the shape [B >= 1, F = 4]; got 1 2"),
    "bytes for fractions": (asked("encode", frames=(FRAMES * 255).tolist()), "frames must be in [0, 1]"),
    "too many drawn": (asked("sample", **SEED | dict(count=10**9)), "for 2000000000 frames; at most 1024"),
    "too many decoded": (asked("decode", static=ZEROS, dynamic=[[[0, 0]] * 1025]), "for 1025 frames; at most 1024"),
    "too many files": (asked("encode_bytes", encoded_frames=[[""] * 1025]), "for 1025 frames; at most 1024"),
    "fewer than none": (asked("sample", **SEED | dict(count=-1)), "count must be at least 1; got -1"),
    "scalars in rows": (
        {"signature_name": "sample", "instances": [SEED]},
        "sample takes one count, not one a row",
    ),
    "no base64": (asked("encode_bytes", encoded_frames=[[{"b64": "!"}]]), "encoded_frames: unable to base64 decode"),
    "no image": (asked("encode_bytes", encoded_frames=[["hello"]]), "encoded_frames must be PNG or JPEG"),
    "another size": (
        asked("encode_bytes", encoded_frames=[[encoded(np.zeros((8, 8, 3), np.uint8))]]),
        "every image of encoded_frames must have the shape [H = 16, W = 16]; got 8 8",
    ),
    "cut short": (
        asked("encode_bytes", encoded_frames=[[{"b64": FILES[0][0]["b64"][:80]}]]),
        "Invalid PNG data",
    ),
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
def test_what_cannot_be_answered_is_400(server_url, body):
    reply = predict(server_url, body[0])
    assert (reply.status_code, reply.headers["Content-Type"]) == (400, "application/json")
    assert body[1] in reply.json()["error"]
    assert "Op:" not in reply.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/v1/models/faces", 404, "Servable not found for request: Latest(faces); there is: puppets"),
        ("POST", "/v1/models/faces:predict", 404, "Servable not found"),
        ("GET", "/v1/models/puppets/versions/2", 404, "Specific(puppets, 2); there is version 3"),
        ("POST", "/v1/models/puppets/versions/2:predict", 404, "Servable not found"),
        ("GET", "/v1/models/puppets/versions/x", 404, "Malformed request: GET /v1/models/puppets/versions/x"),
        ("POST", "/v1/models/puppets:classify", 404, "Malformed request"),
        ("GET", "/v1/models", 404, "Malformed request"),
        ("GET", "/../ddr_tf/server.py", 404, "Malformed request"),
        ("GET", "/v1/models/puppets:predict", 405, "Method Not Allowed"),
        ("POST", "/v1/models/puppets", 405, "Method Not Allowed"),
        ("DELETE", "/v1/models/puppets/metadata", 405, "Method Not Allowed"),
    ],
)
def test_other_paths_and_methods(server_url, method, path, status, words):
    reply = requests.request(method, server_url + path, timeout=9)
    assert (reply.status_code, reply.headers["Content-Type"]) == (status, "application/json")
    assert words in reply.json()["error"]
    assert (status == 405) == ("Allow" in reply.headers)


def test_packed_bodies(server_url):
    packed = {"Content-Encoding": "gzip"}
    body = json.dumps(asked("prior", static=ZEROS)).encode()
    assert predict(server_url, gzip.compress(body), headers=packed).text == predict(server_url, body).text
    reply = predict(server_url, body, headers=packed)
    assert (reply.status_code, "The body cannot be read" in reply.json()["error"]) == (400, True)


def raw(url, request):
    """The answer to bytes."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(request)
        connection.settimeout(10)
        return connection.recv(10_000).decode()


def test_sizes_and_slow_bodies_are_limited(servable):
    with running(application(servable, Limits(body_bytes=2000, seconds=1))) as url:
        bodies = {b" " * 2001: {}, gzip.compress(b" " * 10**6): {"Content-Encoding": "gzip"}}
        for body, headers in bodies.items():
            reply = predict(url, body, headers=headers)
            assert reply.status_code == 413
            assert "too large" in reply.json()["error"]
        begin = "POST /v1/models/puppets:predict HTTP/1.1\r\nHost: localhost\r\n"
        found = raw(url, f"{begin}Content-Length: 9\r\n\r\n{{".encode())
        assert "408 Request Timeout" in found
        assert '{"error":"The body did not arrive within 1 seconds"}' in found
        assert " 400 " in raw(url, b"hello\r\n\r\n")
        assert predict(url, asked("prior", static=ZEROS)).status_code == 200  # and it is still there


def test_late_answers_and_crowds(servable, monkeypatch):
    go_on = threading.Event()
    monkeypatch.setattr(Servable, "__call__", lambda *_: (go_on.wait(30), {"a": np.zeros(1)})[1])
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    body = asked("prior", static=ZEROS)
    with running(application(servable, Limits(seconds=1, waiting=2))) as url, ThreadPoolExecutor() as pool:
        replies = [reply.result() for reply in [pool.submit(predict, url, body) for _ in range(5)]]
        assert sorted(reply.status_code for reply in replies) == [503, 503, 504, 504, 504]
        texts = {reply.json()["error"] for reply in replies}
        assert texts == {
            "There was no answer within 1 seconds",
            "3 requests are being answered or waiting; try again later",
        }
        # What runs cannot be stopped and keeps its place; what only waited has left.
        go_on.set()
        assert predict(url, body).status_code == 200


def test_a_mistake_of_the_server_is_500(servable, monkeypatch, capfd):
    monkeypatch.setattr(Servable, "__call__", lambda *_: 1 / 0)
    with running(application(servable)) as url:
        reply = predict(url, asked("prior", static=ZEROS))
    assert (reply.status_code, "ZeroDivisionError" in reply.json()["error"]) == (500, True)
    assert "Traceback" in capfd.readouterr().err


def test_many_at_once_are_all_answered(server_url, servable):
    def ask(number):
        return predict(server_url, asked("prior", static=[[number, 0, 0, 0]])).json()["outputs"]["mean"]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(32)))
    static = np.zeros((32, 4), np.float32)
    static[:, 0] = np.arange(32)
    np.testing.assert_allclose(np.concatenate(found), servable("prior", {"static": static})["mean"], rtol=1e-5)


@pytest.mark.parametrize("path", PAGES)
def test_the_page_is_served(server_url, path):
    reply = requests.get(f"{server_url}/{path}", timeout=9)
    assert reply.content == (EXPLORER / PAGES[path]).read_bytes()
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Content-Type"].startswith(
        ("text/html", "text/css", "text/javascript", "application/javascript")
    )
    assert requests.get(f"{server_url}/models.json", timeout=9).json() == {"models": ["puppets"]}


@pytest.mark.parametrize("name", ["a name", "a:b", "a%b", "a?b#c", "a+b", "\N{GREEK SMALL LETTER ALPHA}", "a:predict"])
def test_names_of_folders_are_names_in_addresses(saved_model, tmp_path, name):
    (tmp_path / name).symlink_to(saved_model / "3")
    with running(application(Servable(tmp_path / name))) as url:
        client = Client(name, url)
        assert client.versions() == {1: "AVAILABLE"}
        assert client.predict("prior", static=ZEROS)["mean"].shape == (1, 2)
        assert predict(url, asked("prior", static=ZEROS)).status_code == 404


def test_versions_of_any_length(server_url):
    for version in ("3", "03", "9" * 19):
        assert predict(server_url, b"", f"/versions/{version}").status_code == (400 if version.endswith("3") else 404)
    for version in ("9" * 20, "9" * 4301, "\N{ARABIC-INDIC DIGIT THREE}"):
        reply = predict(server_url, b"", f"/versions/{version}")
        assert (reply.status_code, "Malformed request" in reply.json()["error"]) == (404, True)


@pytest.mark.parametrize("begin", [b"\xff\xd8\xfe", b"\xff\xfe\x00", b"\x80", b"\x00\x01"])
def test_files_that_are_neither_images_nor_text(server_url, begin):
    file = {"b64": base64.b64encode(begin + b"abc").decode()}
    reply = predict(server_url, asked("encode_bytes", encoded_frames=[[file]]))
    assert reply.status_code == 400
    assert "encoded_frames must be PNG or JPEG files; one begins with" in reply.json()["error"]


def test_bodies_of_too_many_values_are_not_parsed(servable, monkeypatch):
    monkeypatch.setattr("ddr_tf.serving.server.parse", lambda *_: 1 / 0)
    with running(application(servable, Limits(values=100, lists=10))) as url:
        for body, words in (
            (b"[" + b"0," * 100 + b"0]", "101 values; at most 100"),
            (b"[" * 11 + b"]" * 11, "11 lists and objects; at most 10"),
            (b"[" + b"[]," * 50 + b"0]", "51 lists and objects"),
        ):
            reply = predict(url, body)
            assert (reply.status_code, words in reply.json()["error"]) == (400, True)


def test_frames_are_bounded_by_memory_too(servable):
    with running(application(servable, Limits(held_bytes=2**20))) as url:
        reply = predict(url, asked("sample", **SEED | dict(count=100)))
        assert (reply.status_code, "at most 42 are possible" in reply.json()["error"]) == (400, True)
        assert predict(url, asked("sample", **SEED)).status_code == 200


def asking(url, count):
    """A connection that has asked for frames, and reads nothing."""
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps(asked("sample", **SEED | dict(count=count))).encode()
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((host, int(port)))
    connection.sendall(
        b"POST /v1/models/puppets:predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    return connection


def test_who_does_not_read_is_cut_off_and_holds_nothing_up(servable):
    limits = Limits(stalled_seconds=1, held_bytes=40 * 2**20)
    with running(application(servable, limits)) as url:
        stalled = [asking(url, 512) for _ in range(6)]
        for _ in range(5):  # small ones are answered meanwhile
            assert predict(url, asked("prior", static=ZEROS)).status_code == 200
        time.sleep(5)
        whole = len(predict(url, asked("sample", **SEED | dict(count=512))).content)  # there is room again
        received = []
        for connection in stalled:
            connection.settimeout(60)
            received.append(0)
            with connection, contextlib.suppress(ConnectionError):
                while part := connection.recv(2**16):
                    received[-1] += len(part)
        assert received[0] < whole


def test_requests_whose_answers_nobody_reads_are_not_gathered(server_url):
    host, port = server_url.removeprefix("http://").split(":")
    many = b"GET /v1/models/puppets/metadata HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000
    sent, most = 0, 50_000_000
    with socket.create_connection((host, int(port)), timeout=2) as client, contextlib.suppress(OSError):
        while sent < most:
            sent += client.send(many)
    assert sent < most


@pytest.mark.parametrize("count", [10_000, 80_000])
def test_an_answer_is_sent_to_its_end_before_the_server_ends(servable, monkeypatch, count):
    monkeypatch.setattr(Servable, "__call__", lambda *_: {"a": np.zeros(count)})
    body = json.dumps(asked("prior", static=ZEROS)).encode()
    head = b"POST /v1/models/puppets:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)

    async def ask():
        listener, client = socket.create_server(("127.0.0.1", 0)), socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # so that little of it is on its way
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listener.getsockname())
        async with serving(application(servable), listener, 10):
            reader, writer = await asyncio.open_connection(sock=client, limit=4096)
            writer.write(head + body)
            size = int(re.search(rb"Content-Length: (\d+)", await reader.readuntil(b"\r\n\r\n"))[1])
            received = asyncio.create_task(read_slowly(reader))
        found = await received
        writer.close()
        assert found == size

    async def read_slowly(reader):
        size = 0
        while part := await reader.read(4096):
            size += len(part)
            await asyncio.sleep(0.01)
        return size

    asyncio.run(ask())
