"""Mutated files through every loader: each is read or refused in a line, within limits of time and memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mutated_files import LOADERS, MAX_SECONDS

SCRIPT = Path(__file__).with_name("mutated_files.py")
NAMES = [loader.__name__ for loader in LOADERS]
MAX_GROWTH_MB = 1300  # what decoding may take, and TensorFlow's own buffers
# How often each is tried in the long form, 10,000 together.
COUNTS = {"images": 4000, "frame_folders": 300, "labels": 1600, "cache": 400, "shards": 800, "numbers": 800}
COUNTS |= {"annotations": 900, "preparation": 400, "runs": 800}


def try_files(seed, **counts):
    """What came of each loader, by its name."""
    command = [sys.executable, SCRIPT, str(seed), *(f"{loader}={count}" for loader, count in counts.items())]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=3600)
    assert answer.returncode == 0, answer.stderr[-2000:]
    results = [json.loads(line) for line in answer.stdout.splitlines() if line.startswith("{")]
    return {result.pop("loader"): result for result in results}


def check(result):
    assert result["slowest"] < MAX_SECONDS
    assert result["grown_mb"] < MAX_GROWTH_MB


@pytest.fixture(scope="module")
def tried():
    """A few files of all loaders, in one process, since to import TensorFlow takes longer than most of them.

    Images come last, since they take most memory, and growth is that of the most that the process has had.
    """
    return try_files(1, **{name: max(20, COUNTS[name] // 40) for name in reversed(NAMES)})


@pytest.mark.parametrize("loader", NAMES)
def test_mutated_files_are_read_or_refused(tried, loader):
    check(tried[loader])
    # A damaged cache is made again; of folders, the damaged files alone are left out.
    passes_over_files = loader in ("cache", "frame_folders", "annotations", "preparation")
    assert tried[loader]["refused"] > 0 or passes_over_files


@pytest.mark.slow
@pytest.mark.parametrize("loader", NAMES)
def test_ten_thousand_mutated_files(loader):
    result = try_files(2, **{loader: COUNTS[loader]})[loader]
    check(result)
    print(loader, result)
