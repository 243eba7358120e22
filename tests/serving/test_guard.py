"""What keeps foreign pages away."""

import re

import pytest
import requests

from conftest import running
from ddr_tf.serving.guard import POLICY, host_name
from ddr_tf.serving.server import EXPLORER, application

BODY = b'{"signature_name": "prior", "inputs": [[0, 0, 0, 0]]}'


@pytest.mark.parametrize(
    ("authority", "name"),
    [
        ("localhost", "localhost"),
        ("LOCALHOST:8501", "localhost"),
        ("127.0.0.1:1", "127.0.0.1"),
        ("[::1]:8501", "[::1]"),
        ("a:b", None),
        ("", None),
        ("user@localhost", None),
        ("localhost/x", None),
        ("localhost:8501:1", None),
    ],
)
def test_names_of_hosts(authority, name):
    assert host_name(authority) == name


@pytest.mark.parametrize("path", ["/", "/models.json", "/v1/models/puppets", "/nothing"])
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8501", "", "user@127.0.0.1"])
def test_other_names_are_refused(server_url, path, host):
    reply = requests.get(server_url + path, headers={"Host": host}, timeout=9)
    assert reply.status_code == 403
    assert "The server is not known as" in reply.json()["error"]


def test_names_of_this_machine_and_others_that_are_allowed(server_url, servable):
    port = server_url.rpartition(":")[2]
    for host in ("localhost", f"localhost:{port}", "127.0.0.1", "[::1]:9"):
        assert requests.get(server_url, headers={"Host": host}, timeout=9).status_code == 200
    with running(application(servable, hosts=["my.host"])) as url:
        assert requests.get(url, headers={"Host": "MY.host:443"}, timeout=9).status_code == 200
        assert requests.get(url, timeout=9).status_code == 403


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 200),
        ("http://{}", 200),
        ("https://{}", 200),  # behind a server that has TLS
        ("http://127.0.0.1:1", 403),
        ("http://evil.example", 403),
        ("null", 403),
    ],
)
def test_pages_of_other_origins_compute_nothing(server_url, origin, status):
    host = server_url.partition("://")[2]
    headers = {} if origin is None else {"Origin": origin.format(host)}
    url = f"{server_url}/v1/models/puppets:predict"
    assert requests.post(url, data=BODY, headers=headers, timeout=9).status_code == status
    assert requests.get(server_url, headers=headers, timeout=9).status_code == 200  # reads only, and its page may not


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("json", 415),
    ],
)
def test_only_json_is_taken(server_url, kind, status):
    reply = requests.post(
        f"{server_url}/v1/models/puppets:predict", data=BODY, headers={"Content-Type": kind}, timeout=9
    )
    assert reply.status_code == status
    if status == 415:
        assert "Content-Type must be application/json" in reply.json()["error"]


@pytest.mark.parametrize("path", ["/", "/models.json", "/v1/models/puppets", "/v1/models/puppets:predict", "/nothing"])
def test_every_answer_has_the_headers(server_url, path):
    ask = requests.post if path.endswith("predict") else requests.get
    headers = ask(server_url + path, **({"data": BODY} if ask is requests.post else {}), timeout=9).headers
    assert headers["Content-Security-Policy"] == f"{POLICY}; frame-ancestors 'none'"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_page_has_the_same_policy_where_others_serve_it():
    html = (EXPLORER / "index.html").read_text()
    assert re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', html)[1] == POLICY
