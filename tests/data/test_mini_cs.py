"""The corpus mini_cs: disjoint splits and voices, the same bits on every run."""

import hashlib
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_blora.data import espeak, kaldi, mini_cs
from espnet_blora.utils.keyed import read_keyed

ROOT = Path(__file__).resolve().parents[2]
PLAN = mini_cs.plan()


def test_sizes():
    sizes = {name: len(utterances) for name, utterances in PLAN.items()}
    assert sizes["base_train"] == 8000
    assert sizes["train_cs"] == 600
    assert sizes["test_cs"] == sizes["ret_en"] == sizes["ret_zh"] == 200
    for name in ("valid_cs", "valid_en", "valid_zh"):
        assert 100 <= sizes[name] <= 200


def test_no_sentence_and_no_id_in_two_places():
    utterances = [u for several in PLAN.values() for u in several]
    assert len({u.text for u in utterances}) == len(utterances)
    assert len({u.id for u in utterances}) == len(utterances)


def test_evaluation_voices_are_held_out():
    voices = {name: {u.speaker for u in utterances} for name, utterances in PLAN.items()}
    trained = voices["base_train"] | voices["train_cs"]
    assert not voices["base_train"] & voices["train_cs"]
    for name in set(PLAN) - {"base_train", "train_cs"}:
        assert not voices[name] & trained, name
    tests, valids = ("test_cs", "ret_en", "ret_zh"), ("valid_cs", "valid_en", "valid_zh")
    for test, valid in itertools.product(tests, valids):
        assert not voices[test] & voices[valid]
    for several in voices.values():
        for voice in several:
            espeak.check_voice("cmn", voice)


def test_domains_lengths_and_scripts():
    for name, utterances in PLAN.items():
        for u in utterances:
            languages = {language for language, _ in u.words}
            assert languages == {"en", "zh"} if name.endswith("_cs") else len(languages) == 1
            low, high = (3, 7) if name.endswith("_cs") else (2, 6)
            assert low <= len(u.words) <= high
            assert u.language == ("en" if languages == {"en"} else "zh")
    share = np.mean([u.language == "en" for u in PLAN["base_train"]])
    assert 0.45 < share < 0.55
    assert {u.language for u in PLAN["ret_en"]} == {"en"}
    assert {u.language for u in PLAN["ret_zh"]} == {"zh"}


def test_text_is_written_as_whisper_writes_it():
    words = (("zh", "我们"), ("zh", "喜欢"), ("en", "want"), ("en", "coffee"), ("zh", "猫"))
    u = mini_cs.Utterance("x", "m1", words, "en", 160, 50, 1)
    assert u.text == "我们喜欢 want coffee猫"


def test_every_word_is_used_and_sounds_unlike_the_others():
    for language in ("en", "zh"):
        words = mini_cs.WORDS[language]
        assert 100 <= len(set(words)) == len(words) <= 150
        spoken = {u for v in PLAN["base_train"] for lang, u in v.words if lang == language}
        assert spoken == set(words)
    # In a small process: the words are spoken in a fork, and forks of this one are slow.
    code = """
from espnet_blora.data import mini_cs
from tests.data.phonemes import phonemes
for language, code in (("en", "en"), ("zh", "cmn")):
    words = mini_cs.WORDS[language]
    print(len(words), len(set(phonemes(words, code)) - {""}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    counts = [line.split() for line in done.stdout.splitlines()]
    assert len(counts) == 2 and all(words == phonemes for words, phonemes in counts), counts


def test_a_scaled_set_is_the_beginning_of_the_full_one_and_sets_do_not_depend_on_the_choice():
    part = mini_cs.plan(["valid_en", "train_cs"], scale=0.1)
    assert list(part) == ["valid_en", "train_cs"]
    assert part["train_cs"] == PLAN["train_cs"][:60]
    assert part["valid_en"] == PLAN["valid_en"][:15]


@pytest.mark.parametrize(
    ("sets", "scale", "says"),
    [(["nosuch"], 1.0, "no set nosuch; it has"), (None, 0.0, "scale"), (None, 1.5, "scale")],
)
def test_bad_requests(sets, scale, says):
    with pytest.raises(ValueError, match=says):
        mini_cs.plan(sets, scale)


def digests(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_built_twice_to_the_same_bits(tmp_path, monkeypatch):
    sets = ["valid_cs", "ret_en"]
    for folder, nj in (("a", 2), ("b", 1)):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        assert mini_cs.build("data", sets, nj, 0.03) == {"valid_cs": 4, "ret_en": 6}
    first = digests(tmp_path / "a")
    assert len(first) == 10 + 2 * 5
    assert first == digests(tmp_path / "b")
    monkeypatch.chdir(tmp_path / "a")
    found = kaldi.validate("data/valid_cs", {"zh", "en"}, min_seconds=0.8, max_seconds=8.0)
    assert found.languages == {"zh": 4}
    for path in read_keyed("data/ret_en/wav.scp").values():
        wave, rate = soundfile.read(path)
        assert rate == 16000
        assert wave.ndim == 1
        assert -30 < 20 * np.log10(np.std(wave)) < -19


def test_nj_is_checked(tmp_path):
    with pytest.raises(ValueError, match="nj"):
        mini_cs.build(tmp_path, ["ret_en"], nj=0)


def test_switched_text_uses_only_tokens_of_the_base_domain():
    """Its embeddings are frozen: a token that the base has not met could never be learnt."""
    from whisper.tokenizer import get_tokenizer

    encode = get_tokenizer(True, language="zh", task="transcribe").encode
    plans = mini_cs.plan(["train_cs", "valid_cs", "test_cs", "base_train"])
    known = {t for u in plans["base_train"] for t in encode(u.text)}
    for name in ("train_cs", "valid_cs", "test_cs"):
        for utterance in plans[name]:
            assert known.issuperset(encode(utterance.text)), utterance.text
