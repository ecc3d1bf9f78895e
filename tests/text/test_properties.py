"""What holds of every treatment and of the tokens, whatever the text."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_blora.text import arabic, mixed_tokens
from espnet_blora.text.presets import NORMALISATIONS, get_normalisation
from tests.text import reference
from tests.text.texts import NAMES, TEXTS

ALIKE = ("CJK UNIFIED", "HANGUL SYLLABLE", "TANGUT", "EGYPTIAN", "CUNEIFORM", "ANATOLIAN")
TREATMENTS = st.sampled_from([get_normalisation(name) for name in NAMES])
FORMED = st.sampled_from([t for t in map(get_normalisation, NAMES) if t.form])
# Of the long runs that are all alike every 97th.
CHARACTERS = [
    char
    for code, char in enumerate(map(chr, range(0x20000)))
    if unicodedata.category(char) not in ("Cn", "Co", "Cs")
    and (code % 97 == 0 or not unicodedata.name(char, "").startswith(ALIKE))
]


@given(TREATMENTS, TEXTS)
def test_equals_the_plain_reference_and_twice_is_once(treatment, text):
    once = treatment(text)
    assert once == reference.treat(treatment, text)
    assert treatment(once) == once
    if treatment != NORMALISATIONS["none"]:
        assert once == " ".join(once.split())


@given(FORMED, TEXTS)
def test_composed_and_decomposed_text_come_out_alike(treatment, text):
    nfc, nfd = (treatment(unicodedata.normalize(form, text)) for form in ("NFC", "NFD"))
    assert nfc == nfd == treatment(text)


@given(FORMED, TEXTS)
def test_the_tokens_treated_are_the_treated_text_s_tokens(treatment, text):
    """A text whose Han is spaced is treated as the unspaced one; tags may hold blanks."""
    once = mixed_tokens(treatment(text))
    assert mixed_tokens(treatment(" ".join(once))) == once


@pytest.mark.parametrize("name", ["basic", "mandarin", "turkish", "arabic"])
def test_every_character_is_settled_by_one_pass_and_equals_the_reference(name):
    treatment = NORMALISATIONS[name]
    for around in ("{}", "a{}b", "क{}\u093f", "'{}\u0301"):
        for start in range(0, len(CHARACTERS), 400):
            batch = [around.format(c) for c in CHARACTERS[start : start + 400]]
            text = " ".join(batch)
            once = treatment(text)
            assert treatment(once) == once
            if around == "a{}b":
                assert once == reference.treat(treatment, text)


@given(TEXTS | st.text())
def test_letters_marks_and_digits_are_never_lost(text):
    treatment = NORMALISATIONS["basic"]
    text = text.replace("\u00b4", "'").replace("\u1ffd", "'")
    form = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    assert _kept(treatment(text)) == _kept(form)
    without = NORMALISATIONS["arabic"](text)
    assert _kept(without) == "".join(c for c in _kept(form) if c not in arabic.MARKS and c != "ـ")


def _kept(text: str) -> str:
    """Letters, marks and digits, fully apart, but for the letter that is an apostrophe."""
    kept = (c for c in text if unicodedata.category(c)[0] in "LMN" and c != "ʼ")
    return unicodedata.normalize("NFD", "".join(kept))


@given(TEXTS)
def test_mixed_tokens_equal_the_plain_reference(text):
    assert mixed_tokens(text) == reference.mixed_tokens(text)


def test_every_character_is_a_token_as_the_reference_says():
    for start in range(0, len(CHARACTERS), 500):
        text = "".join(f"a{c}好{c}b " for c in CHARACTERS[start : start + 500])
        assert mixed_tokens(text) == reference.mixed_tokens(text)
