"""Mutated files through every loader: each is read or refused in a line, within limits of time and memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mutated_files import LOADERS, MAX_SECONDS

SCRIPT = Path(__file__).with_name("mutated_files.py")
MAX_GROWTH_MB = 1300  # what decoding may take, and TensorFlow's own buffers
# How often each is tried in the long form, 10,000 together.
COUNTS = {"images": 4000, "frame_folders": 300, "labels": 1600, "cache": 400, "shards": 800, "numbers": 800}
COUNTS |= {"annotations": 900, "preparation": 400, "runs": 800}


def try_files(loader, count, seed):
    command = [sys.executable, SCRIPT, loader, str(count), str(seed)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=3600)
    assert answer.returncode == 0, answer.stderr[-2000:]
    result = json.loads(answer.stdout.splitlines()[-1])
    assert result["slowest"] < MAX_SECONDS
    assert result["grown_mb"] < MAX_GROWTH_MB
    return result


@pytest.mark.parametrize("loader", [loader.__name__ for loader in LOADERS])
def test_mutated_files_are_read_or_refused(loader):
    result = try_files(loader, max(20, COUNTS[loader] // 40), 1)
    # A damaged cache is made again; of folders, the damaged files alone are left out.
    passes_over_files = loader in ("cache", "frame_folders", "annotations", "preparation")
    assert result["refused"] > 0 or passes_over_files


@pytest.mark.slow
@pytest.mark.parametrize("loader", [loader.__name__ for loader in LOADERS])
def test_ten_thousand_mutated_files(loader):
    print(loader, try_files(loader, COUNTS[loader], 2))
