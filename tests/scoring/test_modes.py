"""Modes: each can be scored with; ESPnet's is what ESPnet's sclite counts."""

import random

import pytest

from espnet_blora.scoring import UNITS, Counts, score
from espnet_blora.scoring.modes import MODES, Mode, combinations, espnet_tokens
from espnet_blora.scoring.sclite import parse_totals, run_sclite
from espnet_blora.text.presets import get_normalisation
from tests.scoring.real import SCLITE, real_sclite

WORDS = [
    *"我 你 们 去 吃 3点 我iphone手 （ ， 한국 नमस्ते".split(),
    *"über Ü ñ mañana café cafe\u0301 ÉCOLE école".split(),
    *"library Lah ok <noise> <UNK> <v-noise> 12 don't a-b".split(),
]


@pytest.mark.parametrize("name", MODES)
def test_every_mode_can_be_scored_with(name):
    if name in ("tags_removed", "mandarin"):
        pytest.importorskip("opencc")
    mode = MODES[name]
    assert mode.unit in UNITS and get_normalisation(mode.normalisation).name == mode.normalisation
    found = score({"u": "我 go <noise>"}, {"u": "我 go"}, mode.unit, mode.normalisation)
    assert found.total.tokens == (3 if name != "tags_removed" else 2)


def test_seame_in_both_modes():
    pytest.importorskip("opencc")
    ref = {"u": "<noise> 然后 Then 我 走 了 <noise>"}
    hyp = {"u": "然後 then 我走了"}
    plain, espnet = (MODES[n] for n in ("tags_removed", "espnet_compatible"))
    assert score(ref, hyp, plain.unit, plain.normalisation).total == Counts(hits=6)
    assert score(ref, hyp, espnet.unit, espnet.normalisation).total == Counts(5, 1, 2, 0)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("über ALLES gut", "ü ber ALLES gut"),
        ("çok güzel day", "ç ok g ü zel day"),
        ("mañana voy to work", "ma ñ ana voy to work"),
        ("我IPhone手 <NOISE>", "我 IPhone 手 <NOISE>"),
        ("ÉCOLE", "É COLE"),
        (" \t ", ""),
    ],
)
def test_espnets_tokens(text, tokens):
    assert espnet_tokens(text) == tokens.split()


@real_sclite
@pytest.mark.parametrize("seed", range(4))
def test_espnets_mode_counts_what_its_sclite_counts(tmp_path, seed):
    generator = random.Random(seed)
    ref, hyp = {}, {}
    for n in range(60):
        words = generator.choices(WORDS, k=generator.randint(1, 12))
        ref[f"u{n:02d}"] = " ".join(words)
        kept = [w for w in words if generator.random() > 0.06] or words
        heard = [generator.choice(WORDS) if generator.random() < 0.1 else w for w in kept]
        hyp[f"u{n:02d}"] = " ".join(heard)
    for name, side in (("ref", ref), ("hyp", hyp)):
        lines = (f"{text}\t(s-{key})\n" for key, text in side.items())
        (tmp_path / f"{name}.trn").write_text("".join(lines), encoding="utf-8")
    options = ("-e", "utf-8", "-c", "NOASCII")
    theirs = parse_totals(run_sclite(SCLITE, tmp_path, options))
    mode = MODES["espnet_compatible"]
    ours = score(ref, hyp, mode.unit, mode.normalisation)
    assert (theirs.utterances, theirs.wrong_utterances) == (60, ours.wrong_utterances)
    assert theirs.counts.tokens == ours.total.tokens
    assert theirs.counts.errors == ours.total.errors > 50


def test_arabic_is_scored_three_ways():
    names = [mode.normalisation for mode in combinations("arabic")]
    assert names == ["arabic", "basic", "arabic_lenient"]
    ref, hyp = {"u": "\u0643\u064e\u062a\u0628 \u0623 go"}, {"u": "\u0643\u062a\u0628 \u0627 go"}
    found = [score(ref, hyp, m.unit, m.normalisation, poi=m.poi) for m in combinations("arabic")]
    assert [one.total.errors for one in found] == [1, 2, 0]
    assert found[0].pier == Counts(hits=1)


def test_combinations():
    found = combinations("default", ["mer", "wer"], ["basic", "none"])
    assert [(m.unit, m.normalisation) for m in found] == [
        ("mer", "basic"), ("mer", "none"), ("wer", "basic"), ("wer", "none")
    ]  # fmt: skip
    assert combinations("espnet_compatible") == [MODES["espnet_compatible"]]
    assert len(combinations("default", ["mer", "mer"])) == 1
    assert combinations("default", poi="Latin")[0].poi == "Latin"
    assert isinstance(found[0], Mode)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("seame",), "mode 'seame' is unknown; there are: default, mandarin"),
        (("default", ["ter"]), "unit 'ter' is unknown; there are: mer, wer, cer"),
        (("default", None, ["x"]), "'x' is unknown"),
        (
            ("default", None, None, "latin"),
            "points of interest 'latin' are unknown; there are rest",
        ),
    ],
)
def test_unknown_names(arguments, says):
    with pytest.raises(ValueError, match=says):
        combinations(*arguments)


def test_a_missing_library_is_missed_before_anything_is_scored(monkeypatch):
    def absent(_text):
        raise ValueError("OpenCC, which is not installed")

    monkeypatch.setattr("espnet_blora.scoring.modes.get_normalisation", lambda _name: absent)
    with pytest.raises(ValueError, match="not installed"):
        combinations("tags_removed")
