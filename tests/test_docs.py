"""What the documentation tells people to write works as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import GIN
from ddr_tf import gallery

DOCS = Path(__file__).parents[1] / "docs"
TINY = [
    *("train.steps=4", "train.checkpoint_every=2", "train.log_every=2", "train.held_out_batches=1"),
    *("train.batch_size=2", "train.num_frames=2", "RotatedDigits.num_digits=20", "RotatedDigits.num_angles=4"),
    *("DDR.static_dim=4", "DDR.width=4", "DDR.pair_width=4", "DDR.dense_units=8"),
]


def test_the_dataset_that_the_page_adds_trains(tmp_path, drawn_data):
    page = (DOCS / "datasets.md").read_text()
    python, gin = re.search(r"```python\n(.*?)```.*?```\n(.*?)```", page, re.DOTALL).groups()
    (tmp_path / "rotated_digits.py").write_text(python)
    (tmp_path / "rotated_digits.gin").write_text(gin)
    bindings = [part for binding in TINY for part in ("--gin_param", binding)]
    command = [sys.executable, "-m", "ddr_tf.train", "--gin_file", GIN / "quickstart.gin", "--gin_file"]
    command += ["rotated_digits.gin", "--data_dir", drawn_data, *bindings]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "rotated_digits: 18 train and 2 held-out sequences" in answer.stdout
    assert (tmp_path / "runs/rotated_digits/model.keras").exists()


def test_every_picture_of_the_tour_is_a_figure_that_a_command_draws():
    pictures = set(re.findall(r"\]\(tour/(\w+)\.\w+\)", (DOCS / "tour.md").read_text()))
    assert pictures - {"interpolation_dynamic"} <= gallery.FIGURES.keys()
    assert {path.stem for path in (DOCS / "tour").iterdir()} == pictures
    assert sum(path.stat().st_size for path in (DOCS / "tour").iterdir()) < 1_200_000


@pytest.mark.parametrize("path", [*DOCS.glob("*.md"), DOCS.parent / "README.md"], ids=lambda path: path.name)
def test_files_that_are_named_exist(path):
    root = DOCS.parent
    for name in set(re.findall(r"(?<![\w/])((?:gin|tools|docs|ddr_tf)/[\w/]+\.\w+)", path.read_text())):
        assert (root / name).exists(), name
