"""The command line, as a user runs it."""

import contextlib
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from ddr_tf import serve
from ddr_tf.serving.client import Client


def test_it_serves_until_it_is_stopped(saved_model):
    command = [sys.executable, "-m", "ddr_tf.serve", "--saved_model", saved_model, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            lines = [process.stdout.readline() for _ in range(4)]
            assert re.fullmatch(r"puppets, version 3, loaded in [\d.]+ s\n", lines[0])
            url = re.fullmatch(r"explorer: (http://127\.0\.0\.1:\d+)/\n", lines[1])[1]
            assert lines[2:] == [f"REST API: {url}/v1/models/puppets\n", "Ctrl-C stops it\n"]
            assert Client("puppets", url).versions() == {3: "AVAILABLE"}
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 0
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()


def test_mistakes_are_one_line(tmp_path, saved_model, capsys):
    assert serve.main(["--saved_model", str(tmp_path / "nowhere"), "--port", "0"]) == 2
    assert "There is no folder" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert serve.main(["--saved_model", str(saved_model), "--port", str(port)]) == 2
    assert capsys.readouterr().err.startswith(f"error: Port {port} cannot be used")
    assert serve.main(["--saved_model", str(saved_model), "--port", "99999"]) == 2
    assert capsys.readouterr().err.startswith("error: Port 99999 cannot be used")
    with pytest.raises(SystemExit):
        serve.main([])


@contextlib.contextmanager
def served(path, **options):
    """A process that serves a model, and its address."""
    command = [sys.executable, "-m", "ddr_tf.serve", "--saved_model", path, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as process:
        try:
            while not (found := re.search(r"explorer: (\S+)/\n", line := process.stdout.readline())):
                assert line, process.stderr.read()
            yield process, found[1]
        finally:
            process.kill()


def test_a_run_is_served_too(run_dir):
    with served(run_dir) as (_, url):
        client = Client("quickstart", url)
        assert client.versions() == {1: "AVAILABLE"}
        assert client.predict("sample", count=1, frames_per_sequence=2, seed=[0, 0])["frames"].shape == (
            1,
            2,
            16,
            16,
            3,
        )


def test_requests_in_flight_are_answered_before_the_end(saved_model):
    body = {"signature_name": "sample", "inputs": {"count": 512, "frames_per_sequence": 2, "seed": [0, 0]}}
    with served(saved_model) as (process, url), ThreadPoolExecutor() as pool:
        requests.post(f"{url}/v1/models/puppets:predict", json=body, timeout=60)  # compiles
        replies = [
            pool.submit(requests.post, f"{url}/v1/models/puppets:predict", json=body, timeout=60) for _ in "abcd"
        ]
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert {reply.result().status_code for reply in replies} == {200}
        assert process.wait(timeout=30) == 0
        assert "Traceback" not in process.stderr.read()


def test_a_second_signal_ends_it_at_once(saved_model):
    with served(saved_model) as (process, url):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(
                b"POST /v1/models/puppets:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
            )
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            assert process.poll() is None  # it waits for the body
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=10) == 128 + signal.SIGTERM


def test_names_of_hosts_are_checked(saved_model, capsys):
    for name in ("http://my.host", "my.host/x", ""):
        assert serve.main(["--saved_model", str(saved_model), "--port", "0", "--allow_host", name]) == 2
        assert f"--allow_host {name} must be the name of a host" in capsys.readouterr().err


def test_help_needs_no_tensorflow():
    code = (
        "import sys; from ddr_tf import serve\ntry: serve.main(['--help'])\nfinally: print('tensorflow' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "an exported model" in answer.stdout
    assert answer.stdout.endswith("False\n")
