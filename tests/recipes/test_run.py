"""run.sh: which stages asr.sh gets with which options, and what is refused; a dummy asr.sh."""

import fcntl
import os
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise

import pytest
import yaml

from espnet_blora.adapters import METHODS
from espnet_blora.bin import make_config
from tests.recipes.small import ROOT, calls, data_dir, program, ranges, run, scored


def test_all_stages_in_order(recipe):
    found = run(recipe, "--adapter", "lora")
    assert ranges(found) == [(1, 4), (5, 9), (10, 10), (11, 11), (12, 12)]
    assert {call["--asr_exp"] for call in found} == {"exp/asr_lora"}
    assert {call["--asr_stats_dir"] for call in found} == {"exp/asr_stats"}
    assert "pad_to: batch" in (recipe / found[0]["--asr_config"]).read_text()
    # stage 4 keeps what is strictly shorter, in whole samples: exactly 30 s shall stay
    assert int(float(found[0]["--max_wav_duration"]) * 16000) == 480001
    assert found[-1]["--python"].endswith("espnet_blora.run --whisper ./tiny_mini_cs.safetensors")
    assert found[-1]["--inference_asr_model"] == "valid.acc.best.pth"
    assert found[-1]["--feats_normalize"] == ""


@pytest.mark.parametrize(
    "spelling", ["--stop_stage", pytest.param("--stop-stage", marks=pytest.mark.integration)]
)
def test_some_stages(recipe, spelling):
    for name in ("train_cs", "valid_cs", "test_cs", "ret_en", "ret_zh"):
        data_dir(recipe, name)
    assert ranges(run(recipe, "--stage", "3", spelling, "10")) == [(3, 4), (5, 9), (10, 10)]


def test_the_sets_of_both_roles_are_decoded_and_scored(recipe):
    found = run(recipe, "--stage", "12")
    assert found[-1]["--test_sets"] == "test_cs ret_en ret_zh"
    assert scored(recipe)["--sets"] == "test_cs ret_en ret_zh"
    own = "--stage 12 --train-set train --valid-set dev --test-sets".split()
    found = run(recipe, *own, "test  test2", "--retention-sets", "dev old")
    assert (found[-1]["--train_set"], found[-1]["--valid_set"]) == ("train", "dev")
    assert found[-1]["--test_sets"] == "test test2 dev old"
    # asr.sh decodes the validation set as it was before stage 4
    assert scored(recipe)["--sets"] == "test test2 org/dev old"
    found = run(recipe, "--stage", "12", "--retention_sets", "")
    assert found[-1]["--test_sets"] == "test_cs"


@pytest.mark.integration
def test_ready_made_data_are_checked_before_anything_is_made_of_them(recipe):
    own = (
        "--stage 2 --train_set train --valid_set dev --test_sets test --retention_sets old".split()
    )
    assert "data/train: no such data directory" in run(recipe, *own, code=2)
    for name in ("train", "dev", "test"):
        data_dir(recipe, name)
    data_dir(recipe, "old", 8000)
    assert "8000 Hz with 1 channels" in run(recipe, *own, code=2)
    assert not (recipe / "calls").exists()
    data_dir(recipe, "old")
    assert ranges(run(recipe, *own))[0] == (2, 4)


def run_stage_13(recipe, *options, code=0):
    (recipe / "calls").write_text("")
    assert not run(recipe, "--stage", "13", *options, code=code) or code


def test_stage_13_is_ours(recipe):
    run_stage_13(recipe, "--adapter", "lora", "--adapter_scale", "0.5", "--nlsyms_txt", "symbols")
    options = scored(recipe)
    assert options["--asr_exp"] == "exp/asr_lora" and options["--dump"] == "dump/raw"
    assert options["--inference_tag"] == "decode_scale0.5" and "--mode" not in options
    assert options["--nlsyms_txt"] == "symbols"
    assert (recipe / "exp/asr_lora/RESULTS.md").read_text() == "# RESULTS of exp/asr_lora\n"
    run_stage_13(recipe, "--score_mode", "mandarin")
    assert scored(recipe)["--mode"] == "mandarin"


def test_stage_13_is_left_out_and_extended_as_asr_sh_does(recipe):
    run_stage_13(recipe, "--eval_valid_set", "true")
    assert scored(recipe)["--sets"] == "org/valid_cs test_cs ret_en ret_zh"
    (recipe / "scored").unlink()
    run_stage_13(recipe, "--skip_eval", "true")
    run_stage_13(recipe, "--skip_stages", "12 13")
    run(recipe, "--stage", "12", "--stop_stage", "12")
    assert not (recipe / "scored").exists()
    assert "--cleaner" in run(recipe, "--stage", "13", "--cleaner", "whisper_en", code=2)
    assert ranges(run(recipe, "--stage", "13", "--stop_stage", "15"))[-1] == (14, 15)


@pytest.mark.parametrize("status", [1, 2])
def test_a_mistake_in_scoring_stops_run_sh_after_the_results(recipe, status):
    (recipe / "status").write_text(str(status))
    run_stage_13(recipe, "--stop_stage", "14", code=status)
    assert (recipe / "exp/asr_blora/RESULTS.md").is_file()
    assert (recipe / "calls").read_text() == ""


def test_sclite_splits_at_every_foreign_character_only_where_that_is_right(recipe):
    def options(language, *more):
        folder = recipe / "dump" / "raw" / "ret_en"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "utt2lang").write_text(f"a en\nb {language}\n")
        run_stage_13(recipe, *more)
        return scored(recipe)["--score_opts"]

    assert options("zh") == "-e utf-8 -c NOASCII"
    assert options("fr") == "-e utf-8"
    assert options("fr", "--score_opts", "-s") == "-s"


def test_another_base_model_has_experiments_of_its_own(recipe):
    (recipe / "mine.pt").touch()
    found = run(recipe, "--whisper", "./mine.pt", "--set", "seed=2")
    assert {call["--asr_exp"] for call in found} == {"exp/asr_blora_mine_seed_2"}
    assert "pad_to: 30s" in (recipe / found[0]["--asr_config"]).read_text()
    found = run(recipe, "--whisper", "./mine.pt", "--tag", "x")
    assert found[-1]["--asr_exp"] == "exp/asr_blora_x"


def test_a_published_size_is_fetched_before_any_stage_needs_it(recipe):
    made = recipe / "bin"
    made.mkdir()
    shared = ROOT / "espnet_blora" / "recipes"
    stub = f'case "$*" in *bin.recipe*) echo {shared}/$3 ;; *) echo "$@" >>calls.python ;; esac'
    program(made / "python3", stub)
    (recipe / "theirs" / "python3").unlink()
    found = run(
        recipe, "--whisper", "large-v3-turbo", "--stage", "5", PATH=f"{made}:{os.environ['PATH']}"
    )
    fetched = "-m espnet_blora.bin.fetch_whisper large-v3-turbo\n"
    assert (recipe / "calls.python").read_text().startswith(fetched)
    assert found[-1]["--asr_exp"] == "exp/asr_blora_large-v3-turbo"


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


def test_a_joined_training_set_shares_no_data_statistics_and_experiment(recipe):
    shutil.copy2(ROOT / "egs2" / "custom" / "asr1" / "run.sh", recipe)
    (recipe / "db.sh").write_text("CUSTOM=own\n")
    plain = run(recipe, "--adapter", "lora")
    (recipe / "calls").unlink()
    joined = run(recipe, "--adapter", "lora", "--join", "0.5", "--set", "seed=1")
    differing = {
        "local_data_opts",
        "train_set",
        "asr_stats_dir",
        "asr_exp",
        "asr_config",
        "inference_config",
    }
    for before, after in zip(plain, joined, strict=True):
        changed = {key.removeprefix("--") for key in before if before[key] != after[key]}
        assert changed == differing
        assert after["--local_data_opts"] == before["--local_data_opts"] + " --join 0.5"
        assert (before["--train_set"], after["--train_set"]) == ("train", "train_join0.5")
        assert after["--asr_stats_dir"] == "exp/asr_stats_join0.5"
        assert after["--asr_exp"] == "exp/asr_lora_join0.5_tiny_mini_cs_seed_1"


def test_the_scale_at_decoding_reaches_decoding_only_and_has_its_own_results(recipe):
    found = run(recipe, "--adapter", "lora", "--stage", "11", "--adapter_scale", "0.7")
    assert "--adapter-scale" not in found[0]["--python"]
    assert found[1]["--python"].endswith("--adapter-scale 0.7")
    assert found[1]["--inference_tag"] == "decode_scale0.7"
    assert scored(recipe)["--inference_tag"] == "decode_scale0.7"


def test_who_decodes_reaches_decoding_only(recipe):
    found = run(recipe, "--adapter", "lora", "--stage", "11", "--search", "espnet")
    assert "--search" not in found[0]["--python"]
    assert found[1]["--python"].endswith("--search espnet")
    (recipe / "calls").unlink()
    for name in ("own", "batched"):  # the old name is kept for one release
        assert "--search" not in run(recipe, "--stage", "12", "--search", name)[-1]["--python"]


def test_a_dry_run_shows_every_command_and_runs_none(recipe):
    before = sorted(recipe.rglob("*"))
    done = subprocess.run(
        ["./run.sh", "--whisper", "./tiny_mini_cs.safetensors", "--ngpu", "0", "--dry-run"],
        cwd=recipe,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(recipe.rglob("*")) == before
    shown = [shlex.split(line) for line in done.stdout.splitlines()]
    asr = [dict(zip(w[1::2], w[2::2], strict=True)) for w in shown if w[0] == "./asr.sh"]
    assert ranges(asr)[:4] == [(1, 4), (5, 9), (10, 10), (11, 11)]
    assert asr[-1]["--test_sets"] == "test_cs ret_en ret_zh"
    programs = [w[2].rpartition(".")[2] for w in shown if w[0] == "python3"]
    assert programs == ["make_config", "make_config", "score_experiment"]


def test_the_memory_of_a_training_is_shown_before_it_where_there_is_a_gpu(recipe):
    for count in ("0", "1"):
        options = ["--adapter", "lora", "--stage", "11", "--ngpu", count, "--dry_run"]
        done = subprocess.run(
            ["./run.sh", "--whisper", "./tiny_mini_cs.safetensors", *options],
            cwd=recipe, env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        lines = done.stdout.splitlines()
        shown = [n for n, line in enumerate(lines) if "espnet_blora.bin.memory" in line]
        trained = next(n for n, line in enumerate(lines) if "./asr.sh --stage 11" in line)
        assert len(shown) == int(count) and all(n < trained for n in shown)
        assert all("--config exp/asr_lora/train.yaml" in lines[n] for n in shown)


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


def test_stage_1_tells_each_program_what_may_be_lost(recipe):
    theirs = ROOT / "egs2" / "custom" / "asr1"
    shutil.copy2(theirs / "local" / "data.sh", recipe / "local")
    (recipe / "utils").symlink_to(theirs / "utils")
    program(
        recipe / "theirs" / "python3",
        f"""case "$*" in *bin.recipe*) exec {sys.executable} "$@" ;; esac
        printf "%q " "$@" >>told
        echo >>told""",
    )
    for given, times in (([], 0), (["--max_lost", "0.3"], 2)):
        (recipe / "told").unlink(missing_ok=True)
        command = ["bash", "local/data.sh", "--retention_sets", "librispeech_test_clean", *given]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, cwd=recipe, env=environment, check=True, capture_output=True)
        told = [shlex.split(line) for line in (recipe / "told").read_text().splitlines()]
        made = [words for words in told if "--data_dir" in words]
        programs = [words[1].rpartition(".")[2] for words in made]
        assert programs == ["prepare_corpus", "prepare_retention"]
        pairs = [list(pair) for words in made for pair in pairwise(words)]
        assert [pair for pair in pairs if pair[0] == "--max_lost"] == times * [given]


def test_max_lost_is_checked(recipe):
    assert "--max_lost 'half'" in run(recipe, "--max-lost", "half", code=2)


def test_without_the_package_it_says_how_to_install_it(recipe):
    bare = recipe / "bare"
    bare.mkdir()
    (bare / "python3").write_text("#!/bin/bash\nexit 1\n")
    (bare / "python3").chmod(0o755)
    (recipe / "theirs" / "python3").unlink()
    said = run(recipe, code=2, PATH=f"{bare}:{os.environ['PATH']}")
    assert "pip install --no-deps -e" in said
    assert not (recipe / "calls").exists()


def test_other_options_go_to_asr(recipe):
    found = run(recipe, "--stage", "12", "--hf_repo", "me/it", "--skip_packing", "false")
    assert found[0]["--hf_repo"] == "me/it"
    assert found[0]["--skip_packing"] == "false"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--adapter", "nosuch"], "allowed are the names of conf/adapter_*.yaml: "),
        (["--adapter", "blora blora_dama"], "--adapter blora blora_dama: allowed"),
        (["--adapter", "../conf/adapter_lora"], "allowed are the names"),
        (["--adapter", ""], "allowed are the names"),
        (["--adapter"], "--adapter needs a value"),
        (["--adapter=nosuch"], "--adapter nosuch: allowed"),
        (["--stage=5", "--stop-stage=1"], "--stage 5 is after --stop_stage 1"),
        (["lora"], "unknown argument 'lora'"),
        (["--stage", "x"], "--stage 'x': a number is needed"),
        (["--nj", "many"], "--nj 'many': a number is needed"),
        (["--adapter_scale", "half"], "a number such as 0.7"),
        (["--search", "kaldi"], "--search 'kaldi'"),
        (["--repair", "0.2"], "--repair 0.2: --keep"),
        (["--adapter", "lora_keep"], '--keep "SET ..."'),
        (["--set", "adapter_conf.prior=moments"], '--keep "SET ..."'),
        (["--repair", "x", "--keep", "old"], "--repair 'x': a number"),
        ("--repair .2 --keep old --adapter none".split(), "--adapter none has no adapter"),
        ("--repair .2 --keep old --adapter dora".split(), "--adapter dora cannot be repaired"),
        ("--repair .2 --keep old --stage 12".split(), "no exp/asr_blora/config.yaml"),
        (["--keep", "$(touch hacked)"], "--keep"),
        (["--keep", "old ./no_such_folder"], "--keep ./no_such_folder: no such file or folder"),
        (["--test_sets", ""], "at least one set"),
        (["--test_sets", "a;b"], "set 'a;b'"),
        (["--test_sets", "test_cs ret_en"], "ret_en is named twice"),
        (["--retention_sets", "train_cs"], "train_cs is the training set"),
        (["--train_set", "valid_cs"], "both valid_cs"),
        (["--join", "0.5"], "--join 0.5: the corpus of this recipe has no segments"),
        (["--join", "short"], "--join 'short': seconds"),
        (["--tag", "a b"], "--tag 'a b'"),
        (["--tag", "$(touch hacked)"], "only letters"),
        (["--whisper", "base/nosuch.safetensors"], "no such file"),
        (["--asr_exp", "x"], "is set by this script"),
        (["--adaptr", "lora"], "did you mean '--adapter'?"),
        (["--skip-packng", "true"], "did you mean '--skip_packing'?"),
    ],
)
def test_mistakes_are_refused_before_anything_runs(recipe, options, says):
    assert says in run(recipe, *options, code=2)
    for name in ("calls", "hacked", "exp", "data"):
        assert not (recipe / name).exists()


@pytest.mark.parametrize("backend", ["slurm", "sge", "pbs"])
def test_a_queue_must_be_told_the_number_of_gpus(recipe, backend):
    def start(*options):
        return subprocess.run(
            ["./run.sh", "--whisper", "./tiny_mini_cs.safetensors", *options],
            cwd=recipe,
            env={**os.environ, "PYTHONPATH": str(ROOT), "cmd_backend": backend},
            capture_output=True,
            text=True,
            check=False,
        )

    refused = start()
    assert refused.returncode == 2 and f"cmd_backend={backend}: --ngpu" in refused.stderr
    assert not (recipe / "calls").exists() and not (recipe / "exp").exists()
    # what needs no GPU, and what has been said
    assert start("--stop_stage", "4").returncode == 0
    (recipe / "calls").unlink()
    assert start("--stage", "10", "--ngpu", "2").returncode == 0
    assert {call["--ngpu"] for call in calls(recipe)} == {"2"}


def test_without_a_configuration_here_there_is_the_shared_one(recipe):
    for path in [*(recipe / "conf").glob("adapter_*.yaml"), recipe / "conf" / "decode.yaml"]:
        path.unlink()
    run(recipe, "--adapter", "dama", "--stage", "11")
    decode = yaml.safe_load((recipe / "exp" / "asr_dama" / "decode.yaml").read_text())
    assert decode == make_config.load(make_config.SHARED / "decode.yaml")
    shared = make_config.load(make_config.SHARED / "adapter_dama.yaml")
    made = yaml.safe_load((recipe / "exp" / "asr_dama" / "train.yaml").read_text())
    assert made["adapter"] == "dama"
    assert made["adapter_conf"] == shared["adapter_conf"]


def test_the_help_names_every_adapter(recipe):
    said = subprocess.run(
        ["./run.sh", "--help"],
        cwd=recipe,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    ).stdout
    assert {"none", "full", *METHODS} <= set(said.split())
    assert max(map(len, said.splitlines())) <= 130


def test_a_bad_setting_is_refused(recipe):
    assert "--set 'beta'" in run(recipe, "--set", "beta", "--stage", "11", code=2)


def test_dropped_utterances_are_listed(recipe):
    for name, ids in (("org/train_cs", "ab"), ("train_cs", "b")):
        folder = recipe / "dump" / "raw" / name
        folder.mkdir(parents=True)
        (folder / "wav.scp").write_text("".join(f"{key} x.wav\n" for key in ids))
        (folder / "text").write_text("".join(f"{key} x\n" for key in ids))
    run(recipe, "--stop_stage", "4")
    assert (recipe / "dump" / "raw" / "train_cs" / "dropped").read_text() == "a\n"


def test_two_runs_do_not_prepare_data_at_once(recipe):
    (recipe / "data").mkdir()
    command = ["./run.sh", "--whisper", "./tiny_mini_cs.safetensors", "--ngpu", "0"]
    with (recipe / "data" / ".prepare.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        other = subprocess.Popen(
            [*command, "--stage", "5", "--stop_stage", "5"],
            cwd=recipe,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert "waiting for another run that prepares the data" in other.stdout.readline()
        assert not (recipe / "calls").exists()
    other.communicate()
    assert other.returncode == 0
    assert ranges(calls(recipe)) == [(5, 5)]
