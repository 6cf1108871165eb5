"""The tutorial notebook runs from its first cell to its last."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebooks" / "first-night.ipynb"


@pytest.mark.slow
def test_its_cells_run(tmp_path: Path) -> None:
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    codes = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    codes += ["print(len(verified), 'verified.', pictures['rates'].words)"]
    words = [sys.executable, "-c", "\n".join(codes)]
    done = subprocess.run(
        words, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "14 verified. Rates over time. cosmic" in done.stdout
    assert (tmp_path / "night.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "night.html").read_text("utf-8")


def test_it_is_kept_without_outputs() -> None:
    for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.servers
def test_it_runs_in_jupyter(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    run = nbclient.NotebookClient(
        notebook, timeout=200, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    shown = {kind for cell in run.cells if cell.cell_type == "code" for output in cell.outputs
             for kind in output.get("data", {})}  # fmt: skip
    assert "image/png" in shown
