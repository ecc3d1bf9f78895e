"""local/score.sh, which stage 13 calls: every set is scored, and a mistake in one is not lost."""

import shutil
import subprocess
from pathlib import Path

import pytest

RECIPE = Path(__file__).resolve().parents[2] / "egs2" / "mini_cs" / "asr1"
SHARED = Path(__file__).resolve().parents[2] / "espnet_blora" / "recipes"
PYTHON = f"""#!/bin/bash
case "$*" in *bin.recipe*) echo {SHARED}/$3; exit ;; esac
echo "$@" >>calls
case "$*" in *"/good/"*) exit 0 ;; *"/differs/"*) exit 3 ;; *) exit 2 ;; esac
"""


@pytest.fixture
def score(tmp_path):
    (tmp_path / "local").mkdir()
    shutil.copy2(RECIPE / "local" / "score.sh", tmp_path / "local")
    (tmp_path / "utils").symlink_to((RECIPE / "utils").resolve())
    (tmp_path / "path.sh").write_text('PATH="${PWD}/bin:${PATH}"\n')
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").write_text(PYTHON)
    (tmp_path / "bin" / "python3").chmod(0o755)

    def run(*sets):
        options = ["--inference_tag", "d", "--dump", "dump/raw", "--sets", ",".join(sets), "exp/x"]
        done = subprocess.run(["local/score.sh", *options], cwd=tmp_path, check=False)
        return done.returncode, (tmp_path / "calls").read_text().splitlines()

    return run


def test_each_set_is_scored_where_asr_sh_put_it(score):
    code, calls = score("good", "org/good")
    assert code == 0
    assert "--ref dump/raw/org/good/text --hyp exp/x/d/org/good/text" in calls[1]
    assert calls[1].endswith("--output_dir exp/x/d/org/good/score_blora")


def test_where_sclite_counts_otherwise_all_sets_are_scored_and_the_stage_fails(score):
    code, calls = score("differs", "good")
    assert code == 3
    assert len(calls) == 2


def test_breakdowns_are_asked_for(score):
    _, calls = score("good")
    assert "--utt2lang dump/raw/good/utt2lang --utt2spk dump/raw/good/utt2spk" in calls[0]


def test_a_failure_is_kept_and_the_other_sets_are_scored(score):
    code, calls = score("bad", "good", "differs")
    assert code == 2
    assert len(calls) == 3
