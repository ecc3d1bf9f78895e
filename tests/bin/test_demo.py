"""The program that serves the page: its address, its end, its mistakes."""

import os
import re
import signal
import subprocess
import sys
import urllib.request

import pytest

from espnet_blora.bin import demo
from tests import experiments


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    top = tmp_path_factory.mktemp("demo")
    whisper = experiments.whisper_file(top / "base.safetensors")
    return experiments.experiment(top / "asr_lora", whisper, "lora")[0]


def test_it_serves_until_it_is_ended_and_leaves_nothing(experiment, tmp_path):
    pytest.importorskip("gradio")
    command = [sys.executable, "-m", "espnet_blora.bin.demo", experiment, "--threads", "1"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    ) as process:
        (address,) = re.findall(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
        with urllib.request.urlopen(address, timeout=120) as answer:
            assert answer.status == 200
        assert list(tmp_path.glob("espnet-blora-demo.*"))
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=120)
    assert not list(tmp_path.glob("espnet-blora-demo.*"))


def test_without_gradio_it_says_how_to_get_it(experiment, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert demo.main([str(experiment)]) == 2
    assert "espnet_blora[ui]" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["nowhere"],
        ["EXP", "--examples", "nowhere"],
        ["EXP", "--keep", "nowhere", "--new", "nowhere"],
    ],
)
def test_mistakes(experiment, capsys, words):
    assert demo.main([word.replace("EXP", str(experiment)) for word in words]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_a_repair_needs_both_files(experiment, capsys):
    assert demo.main([str(experiment), "--keep", "old.moments"]) == 2
    assert "--new" in capsys.readouterr().err
