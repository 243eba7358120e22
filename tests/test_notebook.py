"""The notebook of the documentation runs as it stands."""

from pathlib import Path

import pytest

from conftest import GIN
from ddr_tf import export, shipped, train
from tiny import SIZE_BINDINGS

NOTEBOOK = Path(__file__).parents[1] / "docs/notebook.ipynb"
TINY = [
    *("train.steps=2", "train.checkpoint_every=2", "train.log_every=2", "train.held_out_batches=1"),
    *("train.batch_size=2", "train.num_frames=2", "Puppets.num_poses=16"),
    *SIZE_BINDINGS,
]


@pytest.fixture
def folder_with_a_model(tmp_path):
    """Where the notebook is run; with a model of its name if none is shipped."""
    if not any((place / "puppets").is_dir() for place in shipped.PLACES):
        settings = [part for binding in TINY for part in ("--gin_param", binding)]
        run_dir, out = str(tmp_path / "run"), str(tmp_path / "saved_models/puppets")
        assert train.main(["--gin_file", str(GIN / "quickstart.gin"), *settings, "--run_dir", run_dir]) == 0
        assert export.main(["--run_dir", run_dir, "--out", out, "--keep_keras"]) == 0
    return tmp_path


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of Jupyter's own machinery
def test_the_notebook_runs(folder_with_a_model):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(folder_with_a_model)}}
    nbclient.NotebookClient(notebook, timeout=1200, resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 6
