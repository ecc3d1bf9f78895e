"""Tags go as a regular expression, repeated until it finds none, would take them."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from espnet_blora.text import tags

BRACKETED = st.text("<>[]ab \t", max_size=14)


def repeated(text, *patterns):
    before = None
    while before != text:
        before = text
        for pattern in patterns:
            while (done := re.sub(pattern, " ", text)) != text:
                text = done
    return text


@given(BRACKETED)
@example("<[[<>]>")
def test_equals_the_repeated_pattern(text):
    assert tags.without_angle_tags(text) == repeated(text, "<[^<>]*>")
    assert tags.without_tags(text) == repeated(text, r"<[^<>\s][^<>]*>", r"\[[^\[\]]*\]")


@given(BRACKETED)
@example("<[[<>]>")
def test_twice_is_once(text):
    for function in (tags.without_tags, tags.without_angle_tags):
        assert function(function(text)) == function(text)


@pytest.mark.parametrize("pair", ["[]", "<>"])
def test_deep_nesting(pair):
    text = pair[0] * 20000 + "a" + pair[1] * 20000
    assert tags.without_angle_tags(tags.without_tags(text)).strip(" <>") == ""


@pytest.mark.parametrize(
    ("text", "left"), [("(ppl0 a", "  a"), ("[PPB] Apple ppt", "  Apple ppt"), ("ppl ppl", "   ")]
)
def test_breath_marks(text, left):
    assert tags.without_breath_marks(text) == left
