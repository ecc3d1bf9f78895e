"""The recipes of SEAME and of own data on layout-exact copies, and one in ESPnet's own tree."""

import shutil
import subprocess

import pytest

from espnet_blora.utils.keyed import read_keyed
from tests.data.layouts import custom, seame
from tests.integration.conftest import ROOT, TINY, Checkout, copy_recipe
from tests.integration.corpora import SHORT, check_stages, options_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]


def test_seame_with_blora(tmp_path):
    layout = seame.make(tmp_path / "corpus")
    check_stages("seame", layout, "SEAME", ("devman", "devsge"), "zh", tmp_path, "blora")


def test_own_data_with_all_weights(tmp_path):
    layout = custom.make(tmp_path / "corpus")
    check_stages("custom", layout, "CUSTOM", ("test",), "zh", tmp_path, "full")


def test_own_recordings_with_joined_segments(tmp_path):
    """Stages 1-13: three of four segments are one training utterance, other sets as ever."""
    corpus = custom.recordings(tmp_path / "corpus")
    checkout = Checkout(tmp_path / "checkout", "custom")
    own = ["--whisper", str(TINY), "--adapter", "dama", "--tag", "short", "--join", "0.5", *SHORT]
    done = checkout.run("./run.sh", *own, CUSTOM=str(corpus))
    assert done.returncode == 0, done.stdout[-6000:]
    data, dump, exp = (checkout.recipe / name for name in ("data", "dump/raw", "exp"))
    assert read_keyed(data / "train_join0.5" / "text")["anna-0-x3"] == "word 0 word 1 word 2"
    assert (data / "train_join0.5" / "joined.tsv").read_text().startswith("anna-0-x3\tanna-0 ")
    assert not (data / "train").exists()
    for folder in (data, dump):
        assert (
            len(read_keyed(folder / "valid" / "text"))
            == 4
            == len(read_keyed(folder / "test" / "text"))
        )
    lengths = read_keyed(exp / "asr_stats_join0.5" / "train" / "speech_shape")
    assert lengths == {"anna-0-x3": "72000", "anna-3": "24000"}
    assert (exp / "asr_dama_join0.5_short" / "decode/test/score_blora/score.json").is_file()
    assert not (exp / "asr_stats").exists()


def test_a_recipe_copied_into_espnets_tree_runs_there_unchanged(tmp_path):
    tree = tmp_path / "espnet"
    shutil.copytree(ROOT / "tools" / "espnet", tree, symlinks=True)
    # what ESPnet's setup_venv.sh writes, for an environment that has espnet_blora
    (tree / "tools" / "activate_python.sh").write_text(
        f". {ROOT}/tools/venv/bin/activate\nexport PYTHONPATH={ROOT}:${{PYTHONPATH:-}}\n"
    )
    recipe = copy_recipe("seame", tree)
    layout = seame.make(tmp_path / "corpus")
    options = ["--whisper", str(TINY), *options_of(layout), "--stage", "1", "--stop_stage", "5"]
    done = subprocess.run(
        ["./run.sh", *options, "--corpus_dir", str(layout.root)],
        cwd=recipe,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert (recipe / "data/token_list/whisper_multilingual/tokens.txt").stat().st_size
    for dset in ("train", "valid", "devman", "devsge"):
        # --non-print: Kaldi looks for a locale called C.UTF-8, which some systems call C.utf8
        check = ["utils/validate_data_dir.sh", "--no-feats", "--non-print", f"data/{dset}"]
        checked = subprocess.run(check, cwd=recipe, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        assert (recipe / "dump" / "raw" / dset / "wav.scp").is_file()
