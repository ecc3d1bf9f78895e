"""Scripts and tokens."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_blora.text import (
    characters,
    is_han_kana,
    mixed_tokens,
    script_of,
    script_of_token,
    words,
)

MIXED = st.text(
    st.one_of(
        st.sampled_from("你好ひらカー々\u3099\ufe00 ab'é-٣करनाم한\u3000\t,，"), st.characters()
    )
)


@pytest.mark.parametrize(
    ("char", "script"),
    [
        ("你", "Han"),
        ("々", "Han"),
        ("〇", "Han"),
        ("\U00020000", "Han"),
        ("\U000323b0", "Han"),
        ("\uf900", "Han"),
        ("ひ", "Hiragana"),
        ("カ", "Katakana"),
        ("ー", "Katakana"),
        ("ｶ", "Katakana"),
        ("Ａ", "Latin"),
        ("é", "Latin"),
        ("ß", "Latin"),
        ("ж", "Cyrillic"),
        ("م", "Arabic"),
        ("क", "Devanagari"),
        ("\u094d", "Devanagari"),
        ("한", "Hangul"),
        ("7", "Common"),
        ("，", "Common"),
        ("٣", "Common"),
        ("\u0301", "Inherited"),
        ("\ufe00", "Inherited"),
    ],
)
def test_script(char, script):
    assert script_of(char) == script


def test_han_and_kana():
    assert script_of("好") == "Han" and script_of("ひ") == "Hiragana"
    assert [is_han_kana(c) for c in "好ひカーa，한"] == [True] * 4 + [False] * 3


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        ("  \u3000\n", []),
        ("hello world", ["hello", "world"]),
        ("我的iphone手机", ["我", "的", "iphone", "手", "机"]),
        ("我 的 iphone手 机", ["我", "的", "iphone", "手", "机"]),
        ("3点 AI-модель", ["3", "点", "AI-модель"]),
        ("你好，世界", ["你", "好", "，", "世", "界"]),
        ("か\u3099", ["が"]),
        ("\u845b\ufe00城", ["\u845b\ufe00", "城"]),
        ("cafe\u0301", ["café"]),
        ("मेरी किताब है", ["मेरी", "किताब", "है"]),
        ("über alles", ["über", "alles"]),
    ],
)
def test_mixed_tokens(text, tokens):
    assert mixed_tokens(text) == tokens


@given(MIXED)
def test_tokens_lose_nothing_and_are_stable(text):
    tokens = mixed_tokens(text)
    assert "".join(tokens) == "".join(unicodedata.normalize("NFC", text).split())
    assert "".join(tokens) == "".join(characters(text)) == "".join(words(text))
    assert all(token and not any(c.isspace() for c in token) for token in tokens)
    assert mixed_tokens(" ".join(tokens)) == tokens or not unicodedata.is_normalized(
        "NFC", " ".join(tokens)
    )


@given(MIXED)
def test_a_han_or_kana_character_is_alone_in_its_token(text):
    for token in mixed_tokens(text):
        if any(is_han_kana(char) for char in token):
            assert is_han_kana(token[0])
            assert all(script_of(char) == "Inherited" for char in token[1:])


@pytest.mark.parametrize(
    ("token", "script"),
    [
        ("好", "Han"),
        ("don't", "Latin"),
        ("42", "Common"),
        ("AI-модель", "Cyrillic"),
        ("abж", "Latin"),
    ],
)
def test_script_of_token(token, script):
    assert script_of_token(token) == script
