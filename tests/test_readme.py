"""What the README says is true: its code runs, its commands and files exist, it stays short."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_it_is_read_in_three_minutes():
    lines = README.splitlines()
    assert len(lines) <= 90
    assert max(map(len, lines)) <= 120
    headings = re.findall(r"^## (.+)$", README, re.MULTILINE)
    assert headings == [
        "Install", "Demo", "Your data", "Transcribe", "Python", "Results",
        "Why this, and not ...", "Documentation",
    ]  # fmt: skip
    assert "make demo" in "\n".join(lines[:24])
    assert "`make test`" in README


SMALL_WHISPER = """
import whisper

def load_model(name):
    "There are no published weights here: a small Whisper, the same at each call."
    import torch

    torch.manual_seed(0)
    dims = whisper.model.ModelDimensions(80, 1500, 64, 2, 2, 51865, 448, 64, 2, 2)
    model = whisper.model.Whisper(dims)
    torch.nn.init.normal_(model.decoder.positional_embedding)
    return model

whisper.load_model = load_model
"""


def test_the_python_block_runs_as_it_stands(tmp_path):
    (code,) = blocks("python")
    assert code.count("whisper.load_model(") == 2
    checks = "assert espnet_blora.adapters.get_adapter(model).method == 'blora' and term > 0"
    run = subprocess.run(
        [sys.executable, "-c", f"{SMALL_WHISPER}\n{code}\n{checks}"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "trainable" in run.stdout
    assert (tmp_path / "adapter.safetensors").is_file()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:`|^)make ([a-z]+)", README, re.M))))
def test_each_make_target_exists(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_each_option_of_run_sh_exists():
    script = ROOT / "egs2/custom/asr1/run.sh"
    help_ = subprocess.run([script, "--help"], capture_output=True, text=True, check=True).stdout
    commands = " ".join(blocks("sh")).replace("\\\n", " ")
    options = re.findall(r"--([a-z_-]+)", " ".join(re.findall(r"\./run\.sh[^\n]*", commands)))
    assert options
    for option in options:
        assert f"--{option.replace('-', '_')} " in help_, option


def test_each_file_it_names_exists():
    names = re.findall(r"`((?:egs2|docs|espnet_blora|benchmarks|conf|tools)/[\w./-]+)`", README)
    names += re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert names
    for name in names:
        made = "exp/" in name or "my_corpus" in name  # by the demo, by the reader
        places = (ROOT / name, ROOT / "egs2/mini_cs/asr1" / name)
        assert made or any(place.exists() for place in places), name
