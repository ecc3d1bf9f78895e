"""The recipes with a language that Whisper lacks, on layout-exact copies with the tiny base."""

import json

import pytest
import torch
import yaml

from espnet_blora.utils.keyed import read_keyed
from espnet_blora.whisper.vocabulary import Vocabulary, read_token_list
from tests.data.layouts import commonvoice, fleurs, librispeech
from tests.integration.conftest import TINY, Checkout

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]
TABLE = "decoder.decoders.token_embedding.new_weight"
SHORT = "--set max_epoch=2 --set batch_size=2 --set num_workers=0 --set optim_conf.lr=0.01".split()


def test_kinyarwanda_through_all_stages(tmp_path):
    checkout = Checkout(tmp_path / "checkout", "commonvoice_lowres")
    release = commonvoice.make(tmp_path / "corpus", 4, locale="rw", header=13)
    english = librispeech.make(tmp_path / "librispeech", utterances=2, sets=("test_clean",))
    own = ["--whisper", str(TINY), "--lang", "rw", "--hours", "0.5", "--tag", "short"]
    own += ["--retention_sets", "librispeech_test_clean"]
    own += ["--max_lost", "1"]  # the copies lack some audio on purpose
    where = {"COMMONVOICE": str(release.root), "LIBRISPEECH": str(english.root)}
    done = checkout.run("./run.sh", *own, "--adapter", "dama", *SHORT, **where)
    assert done.returncode == 0, done.stdout[-6000:]

    recipe = checkout.recipe
    tokens = recipe / "data/rw_token_list/whisper_multilingual/tokens.txt"
    layout = Vocabulary.of_tokens(read_token_list(tokens))
    assert layout.new_languages == ("rw",)
    made = {p.parent.name: read_keyed(p) for p in recipe.glob("data/*/text")}
    assert {"rw_0.5h_train", "rw_dev", "rw_test", "librispeech_test_clean"} == made.keys()
    assert made["rw_test"].keys() == release.texts["test"].keys()
    assert "Ihene y umuturanyi" in made["rw_test"].values()  # CL-MASR's text
    assert set(read_keyed(recipe / "data/rw_test/utt2lang").values()) == {"rw"}

    experiment = recipe / "exp" / "asr_dama_rw_0.5h_short"
    state = torch.load(experiment / "valid.acc.best.pth")
    assert state[TABLE].shape[0] == 1 and not any(k.endswith("query.weight") for k in state)
    conf = yaml.safe_load((experiment / "config.yaml").read_text())
    assert conf["scheduler"] == "newbob" and conf["decoder_conf"]["new_languages"] == ["rw"]
    (log,) = experiment.glob("train.log")
    assert "new languages rw: their embeddings" in log.read_text()
    for dset, code in (("rw_test", "rw"), ("librispeech_test_clean", "en")):
        score = json.loads((experiment / f"decode/{dset}/score_blora/score.json").read_text())
        assert score["num_utterances"] == len(made[dset])
        assert list(score["by_language"]) == [code]

    # the unadapted base beside it, with the token as it starts
    again = checkout.run("./run.sh", *own, "--adapter", "none", "--stage", "11", *SHORT, **where)
    assert again.returncode == 0, again.stdout[-4000:]
    base = recipe / "exp/asr_none_rw_0.5h_short/decode/rw_test/score_blora/score.json"
    assert json.loads(base.read_text())["num_utterances"] == len(made["rw_test"])


def test_fleurs_in_a_language_that_whisper_has_and_one_that_it_lacks(tmp_path):
    checkout = Checkout(tmp_path / "checkout", "fleurs_lowres")
    for lang in ("lg_ug", "fa_ir"):
        laid = fleurs.make(tmp_path / "corpus", 2, lang=lang)
    own = ["--whisper", str(TINY), "--corpus_dir", str(laid.root), "--retention_sets", ""]
    own += ["--max_lost", "1"]
    own += ["--adapter", "lora_decoder", "--tag", "short", *SHORT]
    for lang, code, new, last in (("lg_ug", "lg", ("lg",), "5"), ("fa_ir", "fa", (), "13")):
        done = checkout.run("./run.sh", *own, "--lang", lang, "--stop_stage", last)
        assert done.returncode == 0, done.stdout[-4000:]
        folder = "lg_token_list" if new else "token_list"
        tokens = checkout.recipe / "data" / folder / "whisper_multilingual/tokens.txt"
        assert Vocabulary.of_tokens(read_token_list(tokens)).new_languages == new
        languages = read_keyed(checkout.recipe / f"data/{lang}_10h_train/utt2lang")
        assert set(languages.values()) == {code}
        assert (checkout.recipe / f"dump/raw/{lang}_test/wav.scp").is_file()
    experiment = checkout.recipe / "exp" / "asr_lora_decoder_fa_ir_10h_short"
    score = json.loads((experiment / "decode/fa_ir_test/score_blora/score.json").read_text())
    reference = read_keyed(checkout.recipe / "data/fa_ir_test/text")
    assert score["num_utterances"] == len(reference) > 0
