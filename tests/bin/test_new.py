"""Folders for recipes outside the repository."""

import os
from pathlib import Path

import pytest

from espnet_blora.bin import new

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def template(monkeypatch):
    monkeypatch.setenv("ESPNET_ROOT", str(ROOT / "tools/espnet"))


def entries(folder):
    return sorted(p.relative_to(folder) for p in folder.rglob("*") if "__pycache__" not in str(p))


def test_a_recipe_is_as_it_is_in_the_repository(tmp_path, capsys):
    assert new.main(["custom", str(tmp_path), "--name", "mine"]) == 0
    made = tmp_path / "egs2/mine/asr1"
    assert str(made) in capsys.readouterr().out
    ours = ROOT / "egs2/custom/asr1"
    for path in entries(made):
        if (ours / path).is_symlink():
            assert os.readlink(made / path) == os.readlink(ours / path)
        elif path.suffix:
            assert (made / path).read_bytes() == (ours / path).read_bytes()
            assert os.access(made / path, os.X_OK) == os.access(ours / path, os.X_OK)
    assert (made / "asr.sh").is_file() and (made / "conf/slurm.conf").is_file()
    assert (made / "../../../tools/venv/bin/python3").is_file()


def test_a_second_recipe_brings_the_one_that_it_reads(tmp_path):
    assert new.main(["custom", str(tmp_path)]) == 0
    assert new.main(["mini_voices", str(tmp_path), "--name", "mine"]) == 0
    assert list((tmp_path / "egs2/mini_cs/asr1/base").glob("*.safetensors"))
    assert (tmp_path / "egs2/mini_noisy/asr1/conf/bed/train.yaml").is_file()
    assert (tmp_path / "egs2/mine/asr1/conf/slurm.conf").is_symlink()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["custon"], "custom"),
        (["custom"], "custom/asr1"),
        (["custom", "--name", "../up"], "'../up'"),
        (["custom", "--name", "TEMPLATE"], "'TEMPLATE'"),
    ],
)
def test_mistakes(tmp_path, capsys, words, said):
    (tmp_path / "egs2/custom/asr1").mkdir(parents=True)
    assert new.main([words[0], str(tmp_path), *words[1:]]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "tools").exists()


def test_without_the_template_nothing_is_made(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("ESPNET_ROOT", str(tmp_path / "nowhere"))
    assert new.main(["custom", str(tmp_path / "work")]) == 2
    assert "ESPNET_ROOT" in capfd.readouterr().err
    assert not (tmp_path / "work/egs2").exists()
