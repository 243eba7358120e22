"""A full disk: one line that says what is still good, and the same command goes on when there is space."""

import os
import subprocess
import sys

import pytest
from test_kills import flags

from ddr_tf import runs


def can_mount(folder):
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [0.05, 0.3, 0.6, 1])
def test_a_full_disk_is_one_line(tmp_path, megabytes):
    if not can_mount(tmp_path):
        pytest.skip("no file system can be mounted here")
    place, kept = tmp_path / "small", tmp_path / "kept"
    place.mkdir()
    train = " ".join(f"'{part}'" for part in [sys.executable, "-m", "ddr_tf.train", *flags(place / "run")])
    script = (
        f"mount -t tmpfs -o size={int(megabytes * 2**20)} tmpfs {place} && {train} 2> {tmp_path}/error; "
        f"status=$?; cp -r {place}/run {kept}; exit $status"
    )
    answer = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, env=os.environ)
    lines = [line for line in (tmp_path / "error").read_text().splitlines() if line.startswith("error: ")]
    assert answer.returncode == 2, (tmp_path / "error").read_text()
    assert len(lines) == 1 and "No space left" in lines[0] and "Op:" not in lines[0], lines
    assert "Traceback" not in (tmp_path / "error").read_text()
    print(f"{megabytes} MB: {lines[0]}")
    good = runs.newest_checkpoint(kept) if kept.exists() else None
    assert (f"the last good checkpoint is {place}/run/checkpoints/" in lines[0]) == (good is not None)
    resumed = subprocess.run([sys.executable, "-m", "ddr_tf.train", *flags(kept)], capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
