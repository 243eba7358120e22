"""Connections: no more than there are descriptors for, and none that stalls."""

import contextlib
import socket
import time

import pytest
import requests

from conftest import running
from ddr_tf.serving import connections
from ddr_tf.serving.server import application


@contextlib.contextmanager
def open_connections(url, count):
    host, port = url.removeprefix("http://").split(":")
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(count)]


@pytest.fixture
def url(servable, monkeypatch):
    monkeypatch.setattr("ddr_tf.serving.server.max_connections", lambda: 8)
    with running(application(servable)) as url:
        yield url


def test_who_waits_longest_makes_room(url, monkeypatch):
    monkeypatch.setattr(connections, "MIN_WAIT", 0)
    with open_connections(url, 8) as idle:
        time.sleep(0.1)  # until all are accepted
        assert requests.get(f"{url}/models.json", timeout=9).status_code == 200
        idle[0].settimeout(9)
        assert idle[0].recv(9) == b""  # it was closed
        idle[1].sendall(b"GET /models.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        idle[1].settimeout(9)
        assert idle[1].recv(12) == b"HTTP/1.1 200"


def test_where_there_is_no_room_the_answer_is_503(url):
    with open_connections(url, 8):
        time.sleep(0.1)
        reply = requests.get(f"{url}/models.json", timeout=9)
    assert (reply.status_code, reply.headers["Connection"]) == (503, "close")
    assert reply.json() == {"error": "There are too many connections; try again later"}
    assert requests.get(f"{url}/models.json", timeout=9).status_code == 200


@pytest.mark.skipif(connections.resource is None, reason="limits of descriptors are POSIX's")
@pytest.mark.parametrize(
    ("soft", "hard", "raised", "most"),
    [(256, 256, 256, 128), (64, 64, 64, 32), (256, 1024, 1024, 896), (9, 10**5, 4224, 4096), (-1, -1, None, 4096)],
)
def test_as_many_as_there_are_descriptors_for(monkeypatch, soft, hard, raised, most):
    given = []
    monkeypatch.setattr("resource.getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr("resource.setrlimit", lambda _, limits: given.append(limits))
    assert connections.max_connections() == most
    assert given == ([] if raised is None else [(raised, hard)])
