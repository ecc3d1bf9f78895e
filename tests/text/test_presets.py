"""Named normalisations: what they do to examples, and their names."""

import itertools
import pickle
import sys

import pytest

from espnet_blora.text import mixed_tokens
from espnet_blora.text.chinese import simplifier
from espnet_blora.text.digits import speller
from espnet_blora.text.presets import FLAGS, NORMALISATIONS, get_normalisation

BASIC = NORMALISATIONS["basic"]


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("Hello, World!", "hello world"),
        ("Ｈｅｌｌｏ　世界。", "hello 世界"),
        ("don\u2019t 'quote' rock 'n' roll", "don't quote rock n roll"),
        ("code-switching", "code switching"),
        ("मेरी किताब।", "मेरी किताब"),
        ("كِتَابٌ،", "كِتَابٌ"),
        ("Straße ﬁn", "strasse fin"),
        ("soft\u00adhyphen \ufeffbom", "softhyphen bom"),
        ("ก\u200bข", "ก ข"),
        ("100 %", "100"),
        ("<noise> a", "noise a"),
        ("l\u00adʼami ŉ", "l'ami n"),
        ("ता'की 'ता", "ता'की ता"),
        ("我'm カ\u309a'm I'm", "我 m カ\u309a m i'm"),
        ("a'\u0301b e\u0301't 5's '\u0301", "a'\u0301b é't 5 s \u0301"),
    ],
)
def test_basic(text, result):
    assert BASIC(text) == result


@pytest.mark.parametrize(
    "text",
    ["मेरी किताब में क्षत्रिय", "தமிழ் மொழி", "বাংলা ভাষা", "ที่นี่", "كِتَابٌ", "שָׁלוֹם", "한국어", "tiếng việt"],
)
@pytest.mark.parametrize(
    "name", [n for n in NORMALISATIONS if not n.startswith("arabic") and n != "none"]
)
def test_no_script_is_damaged(name, text):
    """NFKC itself reorders Hebrew points and takes Thai's sara am apart: what it makes stays."""
    form = get_normalisation("none+nfkc")
    assert form(get_normalisation(name)(text)) == form(text)


@pytest.mark.parametrize(
    ("name", "text", "result"),
    [
        ("none", " A ,  b ", " A ,  b "),
        ("none+nfc", " A ,  b ", "A , b"),
        ("basic_without_tags", "我 <noise> ok [lah] (um) a < b > c", "我 ok um a b c"),
        ("basic_without_tags", "a <b> [d [e] f] g ＜h＞", "a g"),
        ("arabic", "كِتَابٌ ٱلرَّحْمٰنِ جمـــيل", "كتاب ٱلرحمن جميل"),
        ("arabic", "أحمد مدرسة على مسؤول ١٢", "أحمد مدرسة على مسؤول ١٢"),
        ("arabic_lenient", "أحمد إلى آمن ٱلله", "احمد الي امن الله"),
        ("arabic_lenient", "مدرسة على مسؤول شاطئ شيء ١٢ ۳४", "مدرسه علي مسوول شاطي شيء 12 34"),
        ("arabic_lenient", "ا\u064e\u0654 ا\u0640\u0655", "ا ا"),
        ("arabic", "मेरी تَم ok", "मेरी تم ok"),
        ("mandarin", "頭髮發展，乾燥 乾坤 iPhone", "头发发展 干燥 乾坤 iphone"),
        ("mandarin", "乾 坤 乾 燥", "乾 坤 干 燥"),
        ("basic+ascii_digits", "٣ ३ ３ x²", "3 3 3 x2"),
        ("turkish", "IŞIK İyi DİL", "ışık iyi dil"),
        ("seame", "<unk movie title> < unk > <v-noise> [lah] (er) ok", "lah er ok"),
        ("seame", "(ppl) ok ppb) (ppc0 [ppo] ppl <ppo> 我ppl们 （ｐｐｌ） apple", "ok 我 们 apple"),
        ("seame", "pp\u00adl Ppl' x ppt", "x ppt"),
        ("seame", "#nasi-lemak# 這個 café =lah= ~", "nasi lemak 这个 cafe lah"),
        ("espnet_compatible", "<Noise>  OK É 好，", "<noise> ok É 好，"),
        ("basic+spell_digits=en", "mp3 3点 21 3rd 1,000 007", "mp three three 点 twenty one third "
         "one thousand zero zero seven"),
        ("basic+spell_digits=en", "3.5 1234567890123", "three five one two three "
         "four five six seven eight nine zero one two three"),
        ("basic+spell_digits=de", "1.000 Äpfel", "eintausend äpfel"),
        ("basic+spell_digits=kk", "٢١", "жиырма бір"),
    ],
)  # fmt: skip
def test_treatments(name, text, result):
    treat = get_normalisation(name)
    assert treat(text) == result
    assert treat(result) == result


def test_a_spaced_reference_meets_an_unspaced_hypothesis():
    treat = NORMALISATIONS["seame"]
    for hypothesis in ("乾坤和乾燥 ok", "這個頭髮"):
        reference = " ".join(mixed_tokens(hypothesis))
        assert mixed_tokens(treat(reference)) == mixed_tokens(treat(hypothesis))


def test_a_lone_surrogate_stays():
    assert NORMALISATIONS["mandarin"]("a\ud800發 發") == "a\ud800发 发"


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("basic", "basic"),
        ("basic+simplified", "mandarin"),
        ("basic+casefold", "basic"),
        ("none+no_punctuation+casefold+nfkc", "basic"),
        ("basic+no_tags", "basic_without_tags"),
        ("basic+spell_digits=en+simplified", "mandarin+spell_digits=en"),
        ("mandarin+no_seame_tags", "seame"),
        ("arabic+no_tags", "arabic+no_tags"),
        ("basic+ascii_digits+spell_digits=en", "basic+spell_digits=en"),
        ("none+ascii_case", "espnet_compatible"),
        ("none+turkish_case+nfc", "none+nfc+turkish_case"),
    ],
)
def test_canonical_name(name, canonical):
    assert get_normalisation(name).name == canonical
    assert get_normalisation(canonical).name == canonical
    assert get_normalisation(canonical) == get_normalisation(name)


def test_each_treatment_has_one_name_and_each_name_is_read_back():
    flags = [f for f in FLAGS if f != "spell_digits"] + ["spell_digits=en"]
    names: dict = {}
    for preset in NORMALISATIONS:
        for chosen in itertools.chain.from_iterable(
            itertools.combinations(flags, n) for n in range(3)
        ):
            try:
                treatment = get_normalisation.__wrapped__("+".join((preset, *chosen)))
            except ValueError:
                continue
            assert names.setdefault(treatment, treatment.name) == treatment.name
    assert len(names) > 500 and len(set(names.values())) == len(names)
    for treatment, name in names.items():
        assert get_normalisation.__wrapped__(name) == treatment
        assert name in treatment.describe()
    assert len({t.describe().partition(" (")[2] for t in names}) == len(names)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("basi", "'basi'; did you mean 'basic'.*there are: none, basic"),
        ("", "there is no preset ''"),
        ("simplified", "no preset 'simplified'.*flags follow a preset"),
        ("basic+simplifed", "no flag 'simplifed'; did you mean 'simplified'"),
        ("basic+", "no flag ''"),
        ("simplified+basic", "no preset 'simplified'"),
        ("basic+mandarin", "'mandarin' is a preset and goes first"),
        ("basic+nfc", "'nfc' contradicts 'basic', which has form = 'NFKC'"),
        ("none+nfc+nfkc", "'nfkc' contradicts 'nfc'"),
        ("basic+spell_digits", "needs a language, as in spell_digits=en"),
        ("basic+spell_digits=", "needs a language"),
        ("basic+spell_digits=enn", "cannot be spelled in 'enn'; did you mean 'en'"),
        ("basic+spell_digits=zh", "cannot be spelled in 'zh'.*there are: ar, az"),
        ("basic+spell_digits=en+spell_digits=de", "contradicts 'spell_digits=en'"),
        ("basic+simplified=yes", "simplified takes no value"),
    ],
)
def test_a_wrong_name_is_told_with_the_nearest(name, words):
    with pytest.raises(ValueError, match=words):
        get_normalisation(name)


@pytest.mark.parametrize(
    ("module", "make", "name", "remedy"),
    [
        ("opencc", simplifier, "mandarin", r"OpenCC.*pip install 'espnet_blora\[zh\]'"),
        ("num2words", speller, "basic+spell_digits=en", r"num2words.*\[digits\]'"),
    ],
)
def test_a_library_that_is_not_there_is_named_with_the_remedy(
    monkeypatch, module, make, name, remedy
):
    make.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    treatment = get_normalisation.__wrapped__(name)  # a name alone needs no library
    assert name in treatment.describe()
    with pytest.raises(ValueError, match=remedy):
        treatment("plain")
    monkeypatch.undo()
    make.cache_clear()
    assert treatment("plain") == "plain"


def test_description_names_the_treatment():
    assert BASIC.describe().startswith("basic (NFKC, case folded, punctuation")
    assert NORMALISATIONS["none"].describe() == "none (text as it is)"
    said = get_normalisation("seame+spell_digits=en").describe()
    for words in ("seame+spell_digits=en", "ppl", "simplified", "digits spelled out in 'en'"):
        assert words in said


def test_a_treatment_in_use_is_sent_to_another_process():
    treatment = get_normalisation("seame")
    assert treatment("這 A") == "这 a"
    copy = pickle.loads(pickle.dumps(treatment))
    assert copy == treatment and copy.name == "seame" and copy("這 A") == "这 a"
