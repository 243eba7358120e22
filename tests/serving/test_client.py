"""The client, against the development server."""

import io
import subprocess
import sys

import numpy as np
import pytest
from aiohttp import web
from PIL import Image

from conftest import running
from ddr_tf.errors import UserError
from ddr_tf.serving.client import Client


def test_what_comes_out_goes_in_again(server_url, servable):
    client = Client("puppets", server_url)
    assert client.versions() == {3: "AVAILABLE"}
    drawn = client.predict("sample", count=2, frames_per_sequence=3, seed=[0, 1])
    assert {name: (value.dtype, value.shape) for name, value in drawn.items()} == {
        "static": (np.float32, (2, 4)),
        "dynamic": (np.float32, (2, 3, 2)),
        "frames": (np.float32, (2, 3, 16, 16, 3)),
    }
    codes = {name: drawn[name] for name in ("static", "dynamic")}
    frames = client.predict("decode", **codes)["frames"]
    np.testing.assert_array_equal(frames, servable("decode", codes)["frames"])
    found = client.predict("encode", frames=frames.transpose(0, 1, 3, 2, 4).transpose(0, 1, 3, 2, 4))  # not contiguous
    for name, value in servable("encode", {"frames": frames}).items():
        np.testing.assert_array_equal(found[name], value)


def test_files_and_lists(server_url, servable):
    pixels = np.random.RandomState(0).randint(0, 256, (16, 16, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    client = Client("puppets", f"{server_url}/")
    found = client.predict("encode_bytes", encoded_frames=[[file.getvalue()] * 2])
    wanted = servable("encode", {"frames": np.float32([[pixels, pixels]]) / np.float32(255)})
    np.testing.assert_allclose(found["dynamic_mean"], wanted["dynamic_mean"], rtol=1e-5, atol=1e-7)
    assert client.predict("prior", static=[[0, 0, 0, 0]])["stddev"].shape == (1, 2)


def test_mistakes(server_url):
    client = Client("puppets", server_url)
    for signature, inputs, words in (
        ("style", {}, "no signature style; it has: .*swap"),
        ("prior", dict(f=[[0]]), "prior takes static; got f"),
        ("prior", dict(static=[["a"]]), "static must be numbers; got"),
        ("prior", dict(static=[[0]]), r"status 400: .*static must have the shape \[B >= 1, F = 4\]; got 1 1"),
    ):
        with pytest.raises(UserError, match=words):
            client.predict(signature, **inputs)
    with pytest.raises(UserError, match=r"models/a%2Fb answers with status 404: Servable not found"):
        Client("a/b", server_url).versions()
    with pytest.raises(UserError, match="does not answer"):
        Client("puppets", "http://127.0.0.1:1").versions()


def test_the_scheme_of_an_address_may_be_left_out(server_url):
    assert Client("puppets", server_url.removeprefix("http://")).versions() == {3: "AVAILABLE"}
    for url in ("gopher://127.0.0.1", "", "http://"):
        with pytest.raises(
            UserError, match=r"is not the address of a server; give one such as http://127\.0\.0\.1:8501"
        ):
            Client("puppets", url).versions()


def test_something_else_than_a_model_server():
    async def page(request):
        return web.Response(text="<html>", status=502)

    app = web.Application()
    app.router.add_get("/v1/models/puppets", page)
    with running(app) as url, pytest.raises(UserError, match=r"something else than JSON \(status 502\)"):
        Client("puppets", url).versions()


def test_it_needs_no_tensorflow():
    code = "import sys; import ddr_tf.serving.client; print('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize(("module", "package"), [("client", "requests"), ("server", "aiohttp")])
def test_what_is_not_installed_is_one_line(monkeypatch, module, package):
    monkeypatch.delitem(sys.modules, f"ddr_tf.serving.{module}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"needs .*{package}.*pip install -e '\.\[serving\]'"):
        __import__(f"ddr_tf.serving.{module}")
