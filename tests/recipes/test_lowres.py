"""The recipes with one language a run: what --lang and --hours become, and the paper's rivals."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from torch import nn

from espnet_blora.adapters import add_adapter
from espnet_blora.bin import make_config
from espnet_blora.whisper.sizes import dims_of, empty_modules

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ("commonvoice_lowres", "fleurs_lowres")


@pytest.fixture
def recipe(tmp_path, request):
    """A recipe's own files, with a dummy in the place of asr.sh."""
    source = ROOT / "egs2" / request.param / "asr1"
    for name in ("run.sh", "cmd.sh"):
        shutil.copy2(source / name, tmp_path / name)
    for name in ("conf", "local"):
        shutil.copytree(source / name, tmp_path / name)
    (tmp_path / "path.sh").write_text(". local/path.sh\n")
    (tmp_path / "db.sh").write_text("COMMONVOICE=\nFLEURS=\n")
    asr = '#!/bin/bash\nprintf "%q " "$@" >>calls; echo >>calls\n'
    (tmp_path / "asr.sh").write_text(asr)
    (tmp_path / "asr.sh").chmod(0o755)
    (tmp_path / "base.pt").touch()
    return tmp_path


def run(recipe, line, code=0):
    done = subprocess.run(
        ["./run.sh", "--whisper", "./base.pt", "--ngpu", "0", *shlex.split(line)],
        cwd=recipe,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    if code:
        return done.stderr
    words = shlex.split((recipe / "calls").read_text().splitlines()[-1])
    return dict(zip(words[::2], words[1::2], strict=True))


def options(call):
    """What local/data.sh is told."""
    words = call["--local_data_opts"].split()
    found = dict(zip(words[::2], words[1::2], strict=True))
    return found, found["--corpus_option"].split(",")


@pytest.mark.parametrize("recipe", ["commonvoice_lowres"], indirect=True)
def test_a_language_that_whisper_lacks(recipe):
    line = "--lang fy-NL --hours 0.5 --adapter dama --tag a --retention_sets ''"
    call = run(recipe, f"{line} --corpus_dir x --stage 1 --stop_stage 1")
    data, corpus = options(call)
    assert (data["--lang"], data["--hours"], data["--new_languages"]) == ("fy-NL", "0.5", "fy")
    assert corpus == "locale=fy-NL hours=0.5 language=fy subset=cl_masr max_seconds=10".split()
    assert call["--python"].endswith("--whisper ./base.pt --new-languages fy")
    assert call["--lang"] == "fy"  # the folder of the vocabulary
    sets = [call[f"--{name}"] for name in ("train_set", "valid_set", "test_sets")]
    assert sets == ["fy-NL_0.5h_train", "fy-NL_dev", "fy-NL_test"]
    assert call["--asr_exp"] == "exp/asr_dama_fy-NL_0.5h_a"
    assert call["--asr_stats_dir"] == "exp/asr_stats_fy-NL_0.5h"


@pytest.mark.parametrize("recipe", ["fleurs_lowres"], indirect=True)
def test_what_db_sh_says_of_every_corpus_is_not_a_place(recipe, monkeypatch):
    """ESPnet's db.sh holds `downloads` for corpora that the user never set."""
    for name in ("LIBRISPEECH", "AISHELL", "COMMONVOICE", "FLEURS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COMMONVOICE", "/cv")
    variables = "LIBRISPEECH AISHELL COMMONVOICE FLEURS"
    (recipe / "db.sh").write_text("".join(f"{name}=downloads\n" for name in variables.split()))
    (recipe / "local" / "db.local.sh").write_text("AISHELL=/a\n")
    with (recipe / "asr.sh").open("a") as file:
        file.write('echo "${LIBRISPEECH:-none} ${AISHELL} ${COMMONVOICE} ${FLEURS}" >>seen\n')
    run(recipe, "--lang cy_gb --stage 1 --stop_stage 1")
    assert (recipe / "seen").read_text().split() == ["none", "/a", "/cv", "downloads"]


@pytest.mark.parametrize("recipe", ["fleurs_lowres"], indirect=True)
def test_a_language_that_whisper_has(recipe):
    line = "--lang cy_gb --retention_sets '' --corpus_dir x --stage 1 --stop_stage 1 --max_lost .1"
    call = run(recipe, f"{line} --corpus_option max_seconds=20")
    data, corpus = options(call)
    assert data["--max_lost"] == ".1"
    assert "--new_languages" not in data and "new-languages" not in call["--python"]
    # what the user says wins, and is said once
    assert sorted(corpus) == ["hours=10", "lang=cy_gb", "max_seconds=20", "test_hours=1"]
    assert call["--lang"] == "noinfo" and call["--asr_exp"] == "exp/asr_blora_cy_gb_10h_base"
    # one that is not of the ten, and that Whisper lacks: the user names its token
    call = run(recipe, line.replace("cy_gb", "ga_ie") + " --new_languages 'kab, ga'")
    assert "language=ga" in options(call)[1]
    assert call["--python"].endswith("--new-languages kab,ga") and call["--lang"] == "kab-ga"


@pytest.mark.parametrize("recipe", ["commonvoice_lowres"], indirect=True)
@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "--lang is needed, one of: rw eo kab"),
        ("--lang ../rw", "--lang '../rw': the name of a language's folder"),
        ("--lang rw --hours ten", "--hours 'ten': a number such as 0.5"),
        ("--lang rw --new_languages fy-NL", "--new_languages 'fy-NL': codes of 2 or 3 letters"),
    ],
)
def test_what_is_refused_before_anything_runs(recipe, line, says):
    assert says in run(recipe, f"{line} --corpus_dir x", code=2)
    assert not (recipe / "calls").exists()


@pytest.mark.parametrize("name", RECIPES)
def test_training_is_as_the_paper_prints_it(name, tmp_path):
    conf = ROOT / "egs2" / name / "asr1" / "conf"
    train = make_config.load(conf / "train.yaml")
    assert (train["batch_size"], train["valid_batch_size"], train["max_epoch"]) == (6, 16, 2)
    assert (train["optim"], train["optim_conf"]["lr"], train["grad_clip"]) == ("adamw", 1e-4, 5.0)
    assert train["scheduler"] == "newbob"
    assert train["scheduler_conf"] == {"improvement_threshold": 0.0025, "annealing_factor": 0.8}
    decode = make_config.load(conf / "decode.yaml")
    longest = {"commonvoice_lowres": 80, "fleurs_lowres": 120}[name]
    assert (decode["beam_size"], decode["maxlenratio"]) == (1, -longest)


@pytest.mark.parametrize(
    ("adapter", "published"),
    [("dama", 14_909_440), ("lora_decoder", 68_157_440), ("lora_decoder14", 14_909_440)],
)
def test_parameters_are_the_papers(adapter, published):
    model = nn.ModuleDict({"encoder": nn.Module(), "decoder": nn.Module()})
    model.encoder.encoders, model.decoder.decoders = empty_modules(dims_of("large-v2"))
    conf = make_config.load(make_config.SHARED / f"adapter_{adapter}.yaml")
    made = add_adapter(model, conf["adapter"], **conf["adapter_conf"])
    assert made.report()["trainable"] == published
