"""The recipes of corpora on layout-exact copies: data, all stages, and in ESPnet's own tree."""

import hashlib
import json
import shutil
import subprocess

import pytest

from espnet_blora.utils.keyed import read_keyed
from tests.data.layouts import arzen, custom, fisher, librispeech, seame
from tests.integration.conftest import ROOT, TINY, Checkout, copy_recipe

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]
LAYOUTS = {"seame": seame, "arzen": arzen, "fisher_cs": fisher, "custom": custom}
# recipe: its variable, sets of the new domain, language of the prompts
CASES = {
    "seame": ("SEAME", ("devman", "devsge"), "zh"),
    "arzen": ("ARZEN", ("test",), "ar"),
    "fisher_cs": ("FISHER_CALLHOME_SPANISH", ("cs_eval", "mono_eval"), "es"),
    "custom": ("CUSTOM", ("test",), "zh"),
}
TRAINED = {"seame": "blora", "custom": "full"}  # the others end with their token list
SHORT = "--set max_epoch=1 --set batch_size=4 --set num_workers=0 --set accum_grad=1".split()


def options_of(layout):
    return [
        word
        for key, value in layout.options.items()
        for word in ("--corpus_option", f"{key}={value}")
    ]


def digest(folder):
    """Of every file under a folder, by name and content."""
    found = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        found.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return found.hexdigest()


@pytest.mark.parametrize("name", CASES)
def test_stages(name, tmp_path):
    variable, new, language = CASES[name]
    checkout = Checkout(tmp_path / "checkout", name)
    layout = LAYOUTS[name].make(tmp_path / "corpus")
    english = librispeech.make(tmp_path / "librispeech", utterances=2, sets=("test_clean",))
    where = {variable: str(layout.root), "LIBRISPEECH": str(english.root)}
    adapter, last = TRAINED.get(name, "lora"), "13" if name in TRAINED else "5"
    own = ["--whisper", str(TINY), "--adapter", adapter, "--tag", "short", *options_of(layout)]
    own += ["--max_lost", "1"]  # the copies lack some audio on purpose
    done = checkout.run("./run.sh", *own, "--stage", "1", "--stop-stage", last, *SHORT, **where)
    assert done.returncode == 0, done.stdout[-6000:]
    assert "retention sets left out" in done.stdout and "commonvoice_" in done.stdout

    recipe = checkout.recipe
    assert (recipe / "data/token_list/whisper_multilingual/tokens.txt").stat().st_size
    for dset, code in (*((d, language) for d in new), ("librispeech_test_clean", "en")):
        reference = read_keyed(recipe / "dump" / "raw" / dset / "text")
        assert reference
        assert set(read_keyed(recipe / "data" / dset / "utt2lang").values()) <= {code, "en"}
        if name in TRAINED:
            experiment = recipe / "exp" / f"asr_{adapter}_short"
            assert (experiment / "valid.acc.best.pth").is_file()
            scored = experiment / "decode" / dset / "score_blora" / "score.json"
            score = json.loads(scored.read_text())
            assert score["num_utterances"] == len(reference)
            assert not score["sclite"].get("problems")
            assert score["by_speaker"] and score["by_language"]
    made = {p.parent.name: read_keyed(p) for p in recipe.glob("data/*/text")}
    for dset, texts in layout.texts.items():
        if dset == "all":  # of own data it is not said which set an utterance goes to
            assert made["train"] | made["valid"] | made["test"] == dict(texts)
        elif dset in made and dset != "train":
            assert made[dset] == dict(texts)
    assert made["train"]

    before = digest(recipe / "data")
    again = checkout.run("./run.sh", *own, "--stop_stage", "1", **where)
    assert again.returncode == 0, again.stdout[-3000:]
    assert digest(recipe / "data") == before


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
