"""The development server under a load of clients that mean harm: others are answered, and memory is bounded."""

import re
import subprocess
import sys

import pytest

from hostile_clients import run_load

MB_OF_LIMITS = 512 * 2**20 / 1e6  # of `Limits.held_bytes`


@pytest.mark.parametrize("seconds", [8, pytest.param(600, marks=pytest.mark.slow)])
def test_others_are_answered_and_memory_is_bounded(saved_model, seconds):
    command = [sys.executable, "-m", "ddr_tf.serve", "--saved_model", saved_model, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            while not (found := re.search(r"explorer: (\S+)/\n", line := process.stdout.readline())):
                assert line, process.stderr.read()
            results = run_load(found[1], process.pid, seconds)
        finally:
            process.kill()
        errors = process.stderr.read()
    assert not results.good_failures
    assert results.good_requests > seconds
    assert all(results.hostile_requests.values())
    before, first, second, after = results.memory_mb
    assert max(first, second) < before + 1.5 * MB_OF_LIMITS
    assert second < first + 0.5 * MB_OF_LIMITS  # flat
    assert after < before + MB_OF_LIMITS
    assert "Traceback" not in errors
    assert len(errors) < 10_000
