"""The command line, as a user runs it."""

import re
import signal
import socket
import subprocess
import sys

import pytest

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
    assert "nowhere holds no SavedModel" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert serve.main(["--saved_model", str(saved_model), "--port", str(port)]) == 2
    assert capsys.readouterr().err.startswith(f"error: Port {port} cannot be used")
    assert serve.main(["--saved_model", str(saved_model), "--port", "99999"]) == 2
    assert capsys.readouterr().err.startswith("error: Port 99999 cannot be used")
    with pytest.raises(SystemExit):
        serve.main([])


def test_help_needs_no_tensorflow():
    code = (
        "import sys; from ddr_tf import serve\ntry: serve.main(['--help'])\nfinally: print('tensorflow' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "saved_models/NAME" in answer.stdout
    assert answer.stdout.endswith("False\n")
