"""Named normalisations."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_blora.text.normalise import NORMALISATIONS, get_normalisation

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
    ],
)
def test_basic(text, result):
    assert BASIC(text) == result


def test_none_leaves_the_text_alone():
    assert NORMALISATIONS["none"](" A ,  b ") == " A ,  b "


def test_tags_go_whole():
    treatment = NORMALISATIONS["basic_without_tags"]
    assert treatment("我 <noise> ok [lah] (um) a < b > c") == "我 ok um a b c"


@given(st.text())
def test_basic_is_stable_and_keeps_combining_marks(text):
    once = BASIC(text)
    assert BASIC(once) == once
    marks = [c for c in unicodedata.normalize("NFKC", text) if c in "\u093e\u094d\u0bcd\u064b"]
    assert [c for c in once if c in "\u093e\u094d\u0bcd\u064b"] == marks


def test_unknown_name():
    with pytest.raises(ValueError, match="'basi' is unknown.*none, basic"):
        get_normalisation("basi")


def test_description_names_the_treatment():
    assert BASIC.describe().startswith("basic (NFKC, case folded, punctuation")
