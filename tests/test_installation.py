"""What is installed works without a clone, and the source distribution is complete."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tiny import SIZE_BINDINGS

ROOT = Path(__file__).parents[1]
TINY = [
    *("train.steps=3", "train.checkpoint_every=3", "train.log_every=3", "train.held_out_batches=1"),
    *("train.batch_size=2", "train.num_frames=2", "Puppets.size=16", "Puppets.num_poses=8"),
    *SIZE_BINDINGS,
]
NOT_DISTRIBUTED = {".gitignore"}


def run(*command, **options):
    answer = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=900, **options)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The files of the repository in a folder of their own, since a build writes beside them."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    folder = tmp_path_factory.mktemp("copy")
    for name in run("git", "ls-files", cwd=ROOT).splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.mark.slow
def test_a_wheel_trains_without_a_clone(copy, tmp_path):
    site = tmp_path / "site"
    run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"),
        *("--disable-pip-version-check", "--target", site, copy),
    )
    modules = {path.relative_to(ROOT) for path in (ROOT / "ddr_tf").rglob("*.py")}
    assert modules == {path.relative_to(site) for path in (site / "ddr_tf").rglob("*.py")}
    assert (site / "ddr_tf/py.typed").exists()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = os.environ | {"PYTHONPATH": str(site)}
    where = run(sys.executable, "-c", "import ddr_tf; print(ddr_tf.__file__)", cwd=elsewhere, env=environment)
    assert where.strip() == str(site / "ddr_tf/__init__.py")
    settings = [part for binding in TINY for part in ("--gin_param", binding)]
    for number, name in enumerate(("quickstart.gin", "gin/quickstart.gin")):
        command = [sys.executable, "-m", "ddr_tf.train", "--gin_file", name, "--run_dir", str(number), *settings]
        run(*command, cwd=elsewhere, env=environment)
        assert (elsewhere / str(number) / "model.keras").exists()


@pytest.mark.slow
def test_the_source_distribution_is_complete(copy, tmp_path):
    run(
        *(sys.executable, "-c", "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"),
        tmp_path,
        cwd=copy,
    )
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert set(run("git", "ls-files", cwd=ROOT).splitlines()) - NOT_DISTRIBUTED <= held
