"""Mutated files through every loader: each is read or refused in a line, within limits of time and memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mutated_files import LOADERS, MAX_SECONDS

SCRIPT = Path(__file__).with_name("mutated_files.py")
MAX_GROWTH_MB = 1300  # what decoding may take, and TensorFlow's own buffers
# How often each is tried in the long form.
COUNTS = {"images": 4000, "frame_folders": 300, "labels": 1600, "cache": 400, "shards": 800, "numbers": 800}
COUNTS |= {"annotations": 900, "preparation": 400, "runs": 800, "densities": 800, "models": 200}
PASS_OVER_FILES = ("cache", "frame_folders", "annotations", "preparation")  # or make them again


def try_files(seed, **counts):
    command = [sys.executable, SCRIPT, str(seed), *(f"{name}={count}" for name, count in counts.items())]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=3600)
    assert answer.returncode == 0, answer.stderr[-2000:]
    results = [json.loads(line) for line in answer.stdout.splitlines() if line.startswith('{"loader"')]
    assert [result["loader"] for result in results] == list(counts)
    for result in results:
        assert result["slowest"] < MAX_SECONDS
        assert result["grown_mb"] < MAX_GROWTH_MB
    return results


def test_all_loaders_are_tried():
    assert [loader.__name__ for loader in LOADERS] == list(COUNTS)


def test_mutated_files_are_read_or_refused():
    for result in try_files(1, **{name: max(10, count // 80) for name, count in COUNTS.items()}):
        assert result["refused"] > 0 or result["loader"] in PASS_OVER_FILES


@pytest.mark.slow
@pytest.mark.parametrize("loader", COUNTS)
def test_thousands_of_mutated_files(loader):
    print(*try_files(2, **{loader: COUNTS[loader]}))
