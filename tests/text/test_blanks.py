"""Unspaced text is what Whisper writes, and the same tokens."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from espnet_blora.text import mixed_tokens
from espnet_blora.text.tokens import unspaced

PIECES = ["我", "咖啡", "カ", "が", "か\u3099", "want", "I'm", "é", "e\u0301", "3", ",", "，", "。"]
PIECES += [
    " ",
    "  ",
    "\u3000",
    "\u00a0",
    "\t",
    "-",
    "\ufe00",
    "\u200d",
    "مول",
    "한",
    "\u1112\u1161",
]
mixed = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("我 昨 天 去 library 借 书", "我昨天去 library借书"),
        ("我昨天去 library 借书", "我昨天去 library借书"),
        ("我们want 咖啡", "我们 want咖啡"),
        ("嗯我 think 可以", "嗯我 think可以"),
        ("okay can  we\tstart", "okay can we start"),
        ("我的iphone手机", "我的 iphone手机"),
        ("我有3个", "我有3个"),
        ("我有 3 个", "我有 3个"),
        ("你好 ， 吗 。", "你好，吗。"),
        ("你好, 吗", "你好,吗"),
        ("好 ，word", "好，word"),
        ("ok ，好", "ok ，好"),
        ("コーヒー を のむ", "コーヒーをのむ"),
        ("か\u3099 want", "か\u3099 want"),
        ("我\u3000们", "我们"),
        ("انا رايح المول", "انا رايح المول"),
        ("  ", ""),
        ("", ""),
    ],
)
def test_examples(text, expected):
    assert unspaced(text) == expected


@given(mixed | st.text(max_size=20))
@example("我 \u0301x")
@example("x\u3099 我")
def test_the_tokens_stay_and_twice_is_once(text):
    once = unspaced(text)
    assert mixed_tokens(once) == mixed_tokens(text)
    assert unspaced(once) == once


@given(mixed | st.text(max_size=20))
def test_no_blank_before_han_and_none_but_single_ones(text):
    once = unspaced(text)
    assert " ".join(once.split()) == once
    for before, after in pairwise(once):
        assert not (before == " " and mixed_tokens(after + "x") == [after, "x"])
