"""run.sh: which stages asr.sh gets with which options, and what is refused; a dummy asr.sh."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "egs2" / "mini_cs" / "asr1"


@pytest.fixture
def recipe(tmp_path):
    """The recipe's own files, with stand-ins for what it links to."""
    for name in ("run.sh", "cmd.sh"):
        shutil.copy2(RECIPE / name, tmp_path / name)
    shutil.copytree(RECIPE / "conf", tmp_path / "conf")
    (tmp_path / "local").mkdir()
    (tmp_path / "path.sh").write_text("")
    (tmp_path / "db.sh").write_text("MINI_CS=\n")
    asr = '#!/bin/bash\nprintf "%q " "${ESPNET_BLORA_THREADS:--}" "$@" >>calls; echo >>calls\n'
    (tmp_path / "asr.sh").write_text(asr)
    (tmp_path / "asr.sh").chmod(0o755)
    (tmp_path / "base.safetensors").touch()
    return tmp_path


def run(recipe, *options, code=0, **environment):
    done = subprocess.run(
        ["./run.sh", "--whisper", "./base.safetensors", "--ngpu", "0", *options],
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


def ranges(found):
    return [(int(call["--stage"]), int(call["--stop_stage"])) for call in found]


def test_all_stages_in_order(recipe):
    found = run(recipe, "--adapter", "lora")
    assert ranges(found) == [(1, 4), (5, 9), (10, 10), (11, 11), (12, 13)]
    assert {call["--asr_exp"] for call in found} == {"exp/asr_lora"}
    assert {call["--asr_stats_dir"] for call in found} == {"exp/asr_stats"}
    assert found[-1]["--python"].endswith("espnet_blora.run --whisper ./base.safetensors")
    assert found[-1]["--inference_asr_model"] == "valid.acc.best.pth"
    assert found[-1]["--feats_normalize"] == ""


@pytest.mark.parametrize("spelling", ["--stop_stage", "--stop-stage"])
def test_some_stages(recipe, spelling):
    assert ranges(run(recipe, "--stage", "3", spelling, "10")) == [(3, 4), (5, 9), (10, 10)]


def test_only_training_has_all_cores(recipe):
    found = run(recipe, "--stage", "10", ESPNET_BLORA_THREADS="7")
    assert [call["threads"] for call in found][1] == "7"
    assert found[2]["threads"] == "-"


def test_settings_name_the_experiment_and_change_its_configuration(recipe):
    found = run(recipe, "--adapter", "blora", "--set", "adapter_conf.beta=0.1", "--set", "seed=2")
    assert found[0]["--asr_exp"] == "exp/asr_blora_beta_0.1_seed_2"
    assert "beta: 0.1" in (recipe / found[0]["--asr_config"]).read_text()
    found = run(recipe, "--adapter", "blora", "--set", "seed=2", "--tag", "again")
    assert found[-1]["--asr_exp"] == "exp/asr_blora_again"


def test_the_scale_at_decoding_reaches_decoding_only_and_has_its_own_results(recipe):
    found = run(recipe, "--adapter", "lora", "--stage", "11", "--adapter_scale", "0.7")
    assert "--adapter-scale" not in found[0]["--python"]
    assert found[1]["--python"].endswith("--adapter-scale 0.7")
    assert found[1]["--inference_tag"] == "decode_scale0.7"
    assert "--inference_tag decode_scale0.7" in found[1]["--local_score_opts"]


def test_where_the_audio_goes(recipe):
    def place(*options, **environment):
        (recipe / "calls").unlink(missing_ok=True)
        found = run(recipe, "--stop_stage", "1", *options, **environment)
        return found[0]["--local_data_opts"].split()[1]

    assert place() == "downloads/mini_cs"
    (recipe / "local" / "db.local.sh").write_text("MINI_CS=/from/local\n")
    assert place() == "/from/local"
    assert place(MINI_CS="/from/environment") == "/from/environment"
    assert place("--corpus-dir", "/from/option", MINI_CS="/from/environment") == "/from/option"


def test_other_options_go_to_asr(recipe):
    found = run(recipe, "--stage", "12", "--hf_repo", "me/it", "--skip_packing", "false")
    assert found[0]["--hf_repo"] == "me/it"
    assert found[0]["--skip_packing"] == "false"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--adapter", "nosuch"], "allowed are none, lora, blora, full"),
        (["--adapter"], "--adapter needs a value"),
        (["--adapter=lora"], "options have the form --name value"),
        (["lora"], "unknown argument 'lora'"),
        (["--stage", "x"], "--stage x: a number is needed"),
        (["--tag", "a b"], "--tag 'a b'"),
        (["--tag", "$(touch hacked)"], "only letters"),
        (["--whisper", "base/nosuch.safetensors"], "no such file"),
        (["--asr_exp", "x"], "is set by this script"),
    ],
)
def test_mistakes_are_refused_before_anything_runs(recipe, options, says):
    assert says in run(recipe, *options, code=2)
    assert not (recipe / "calls").exists()
    assert not (recipe / "hacked").exists()


def test_a_bad_setting_is_refused(recipe):
    assert "--set 'beta'" in run(recipe, "--set", "beta", "--stage", "11", code=1)


def test_dropped_utterances_are_listed(recipe):
    for name, ids in (("org/train_cs", "ab"), ("train_cs", "b")):
        folder = recipe / "dump" / "raw" / name
        folder.mkdir(parents=True)
        (folder / "wav.scp").write_text("".join(f"{key} x.wav\n" for key in ids))
        (folder / "text").write_text("".join(f"{key} x\n" for key in ids))
    run(recipe, "--stop_stage", "4")
    assert (recipe / "dump" / "raw" / "train_cs" / "dropped").read_text() == "a\n"
