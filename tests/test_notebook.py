"""The notebook of the documentation runs as it stands."""

from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs/notebook.ipynb"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of Jupyter's own machinery
def test_the_notebook_runs(tmp_path):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    pictures = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 6
