"""Starting the run.sh of a small recipe, and what it started."""

import os
import shlex
import subprocess
from pathlib import Path

import numpy as np
import soundfile

from espnet_blora.data import kaldi

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "egs2" / "mini_cs" / "asr1"


def program(path, script):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)


def scored(recipe):
    """Options of the last call of stage 13's program; --sets is a list."""
    words = shlex.split((recipe / "scored").read_text().splitlines()[-1])[2:]
    options = {}
    for word in words:
        if word.startswith("--"):
            name, _, value = word.partition("=")
            options[name] = value
        elif options.get(name):
            options[name] += f" {word}"
        else:
            options[name] = word
    return options


def run(recipe, *options, code=0, **environment):
    done = subprocess.run(
        ["./run.sh", "--whisper", "./tiny_mini_cs.safetensors", "--ngpu", "0", *options],
        cwd=recipe,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code else calls(recipe)


def calls(recipe):
    """Options of each call of asr.sh, its threads among them, those it got last."""
    found = []
    for line in (recipe / "calls").read_text().splitlines():
        threads, *words = shlex.split(line)
        found.append({"threads": threads, **dict(zip(words[::2], words[1::2], strict=True))})
    return found


def data_dir(recipe, name, rate=16000, language="en"):
    """A data directory of one utterance of a second."""
    wav = recipe / f"{name}.wav"
    soundfile.write(wav, np.zeros(rate, dtype=np.int16), rate, format="WAV")
    one = {"a": "hi"}
    kaldi.write_data_dir(recipe / "data" / name, {"a": str(wav)}, one, {"a": "s"}, {"a": language})


def ranges(found):
    return [(int(call["--stage"]), int(call["--stop_stage"])) for call in found]
