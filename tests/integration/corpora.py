"""Recipes of corpora on layout-exact copies: what every one of them must do."""

import hashlib
import json

from espnet_blora.utils.keyed import read_keyed
from tests.data.layouts import librispeech
from tests.integration.conftest import TINY, Checkout

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


def check_stages(name, layout, variable, new, language, folder, adapter=None):
    """Run the stages of a recipe on a copy of its corpus, and stage 1 once more.

    Args:
        name: The recipe's.
        layout: The copy of the corpus.
        variable: Names the copy to the recipe.
        new: Sets of the new domain.
        language: Of the prompts.
        folder: For all that is written.
        adapter: What is trained, decoded and scored; None ends with the token list.
    """
    checkout = Checkout(folder / "checkout", name)
    english = librispeech.make(folder / "librispeech", utterances=2, sets=("test_clean",))
    where = {variable: str(layout.root), "LIBRISPEECH": str(english.root)}
    own = ["--whisper", str(TINY), "--tag", "short", *options_of(layout)]
    own += ["--adapter", adapter or "lora", "--max_lost", "1"]  # audio is lacking on purpose
    last = "13" if adapter else "5"
    done = checkout.run("./run.sh", *own, "--stage", "1", "--stop-stage", last, *SHORT, **where)
    assert done.returncode == 0, done.stdout[-6000:]
    assert "retention sets left out" in done.stdout and "commonvoice_" in done.stdout

    # the sets, and what was trained
    recipe = checkout.recipe
    assert (recipe / "data/token_list/whisper_multilingual/tokens.txt").stat().st_size
    for dset, code in (*((d, language) for d in new), ("librispeech_test_clean", "en")):
        reference = read_keyed(recipe / "dump" / "raw" / dset / "text")
        assert reference
        assert set(read_keyed(recipe / "data" / dset / "utt2lang").values()) <= {code, "en"}
        if adapter:
            experiment = recipe / "exp" / f"asr_{adapter}_short"
            assert (experiment / "valid.acc.best.pth").is_file()
            scored = experiment / "decode" / dset / "score_blora" / "score.json"
            score = json.loads(scored.read_text())
            assert score["num_utterances"] == len(reference)
            assert not score["sclite"].get("problems")
            assert score["by_speaker"] and score["by_language"]

    # the texts
    made = {p.parent.name: read_keyed(p) for p in recipe.glob("data/*/text")}
    for dset, texts in layout.texts.items():
        if dset == "all":  # of own data it is not said which set an utterance goes to
            assert made["train"] | made["valid"] | made["test"] == dict(texts)
        elif dset in made and dset != "train":
            assert made[dset] == dict(texts)
    assert made["train"]

    # nothing changes
    before = digest(recipe / "data")
    again = checkout.run("./run.sh", *own, "--stop_stage", "1", **where)
    assert again.returncode == 0, again.stdout[-3000:]
    assert digest(recipe / "data") == before
