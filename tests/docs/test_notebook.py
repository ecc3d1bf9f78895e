"""The notebook: its cells run as they stand, and the file holds what they showed."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs/notebooks/adapt_a_whisper.ipynb"


def cells(path, kind="code"):
    return [c for c in json.loads(path.read_text("utf-8"))["cells"] if c["cell_type"] == kind]


def shown(path):
    outputs = [output for cell in cells(path) for output in cell["outputs"]]
    return "\n".join("".join(o.get("text") or o["data"]["text/plain"]) for o in outputs)


def test_the_file_is_of_one_whole_run():
    code = cells(NOTEBOOK)
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not re.search(r"/tmp|/home|/root|Error|Warning", shown(NOTEBOOK))
    for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"]:
        assert all(len(line) <= 121 for line in cell["source"])
    assert NOTEBOOK.read_text("utf-8").endswith("}\n")


@pytest.mark.integration
@pytest.mark.timeout(600)
def test_its_cells_run(tmp_path):
    copy = tmp_path / NOTEBOOK.name
    shutil.copy(NOTEBOOK, copy)
    (tmp_path / "work").mkdir()
    command = [sys.executable, ROOT / "docs/run_notebook.py", copy, tmp_path / "work"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]

    # It learns, scale 0 is the base, and what was exported reads what was said.
    rates = {
        name.strip(): float(rate)
        for name, rate in re.findall(r"^(.+?) test_cs +([\d.]+) %", shown(copy), re.MULTILINE)
    }
    assert rates["base"] == rates["scale   0"] > 1.5 * rates["scale 0.5"]
    assert rates["scale   1"] == rates["scale   1, repaired   0"]
    assert rates["scale   1, repaired 0.2"] < rates["base"]
    assert "its reader's ids are ours on 10 utterances of data/test_cs" in shown(copy)
    assert (tmp_path / "work/exported/model.safetensors").is_file()
