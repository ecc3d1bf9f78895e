"""What the README says is true: its code runs, its commands and files exist, it stays short."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from espnet_blora.adapters import parse_config

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_it_is_read_in_five_minutes():
    assert README.count("\n") <= 160
    first_screen = README.splitlines()[:24]
    assert any(line.startswith("make demo") for line in first_screen)
    assert any(line.startswith("make test") for line in first_screen)
    assert "@@" not in README


def test_the_python_block_runs_as_it_stands(tmp_path):
    code = blocks("python")
    assert len(code) == 1
    done = subprocess.run(
        [sys.executable, "-c", code[0]],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "trainable" in done.stdout
    assert (tmp_path / "adapter.safetensors").is_file()


def test_the_yaml_block_is_a_valid_configuration():
    conf = yaml.safe_load(blocks("yaml")[0])
    assert conf["use_adapter"] is True
    config = parse_config(conf["adapter"], conf["adapter_conf"])
    assert config.rank == 32 and config.beta == 0.5 and config.prior_std_A == 0.01
    assert tuple(config.target_modules) == ("query", "key")


@pytest.mark.parametrize(
    "target", sorted(set(re.findall(r"(?:`|^|\\S=\\S+ )make ([a-z]+)", README, re.M)))
)
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
