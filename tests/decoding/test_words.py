"""Words and their tokens: byte offsets, whatever the tokens cut in two."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_blora.decoding.words import word_spans
from espnet_blora.text.tokens import mixed_tokens
from espnet_blora.whisper.vocabulary import Vocabulary

LAYOUT = Vocabulary.of(51865)


def spans(text, split=mixed_tokens):
    return word_spans(LAYOUT, LAYOUT.encode(text), split)


def test_words_of_one_token_each_and_of_several():
    ids = LAYOUT.encode(" hello unbelievabilities")
    found = word_spans(LAYOUT, ids, str.split)
    assert found == [("hello", 0, 1), ("unbelievabilities", 1, len(ids))]
    assert len(ids) > 3


def test_a_token_of_two_words_counts_for_both():
    ids = LAYOUT.encode("我们 want咖啡")
    assert LAYOUT.decode(ids[:1]) == "我们"  # one token, two words of the mixed error rate
    found = word_spans(LAYOUT, ids, mixed_tokens)
    assert found[:2] == [("我", 0, 1), ("们", 0, 1)]
    assert found[2] == ("want", 1, 2)
    assert [w for w, _, _ in found] == ["我", "们", "want", "咖", "啡"]


def test_a_character_of_several_tokens():
    ids = LAYOUT.encode("a龘b")
    assert len(ids) >= 4 and "\ufffd" in LAYOUT.decode(ids[1:2])
    assert word_spans(LAYOUT, ids, mixed_tokens)[1] == ("龘", 1, len(ids) - 1)


def test_broken_utf8_is_a_replacement_character():
    ids = LAYOUT.encode("龘")
    cut = [*LAYOUT.encode("ab "), *ids[:-1]]
    assert word_spans(LAYOUT, cut, str.split)[-1] == ("\ufffd", len(cut) - len(ids) + 1, len(cut))


def test_control_tokens_and_blanks_belong_to_no_word():
    hello, blank = LAYOUT.encode(" hello"), LAYOUT.encode("   ")
    ids = [LAYOUT.timestamp_begin, *hello, LAYOUT.timestamp_begin + 9, *blank, *hello, LAYOUT.eot]
    found = word_spans(LAYOUT, ids, str.split)
    assert found == [("hello", 1, 2), ("hello", len(ids) - 2, len(ids) - 1)]
    assert word_spans(LAYOUT, [], str.split) == []
    assert word_spans(LAYOUT, blank, str.split) == []


def test_text_that_is_not_composed_is_split_composed():
    found = spans("cafe\u0301 \u1112\u1161\u11ab")
    assert [w for w, _, _ in found] == ["café", "한"]
    assert found[0][1] == 0 and found[1][2] == len(LAYOUT.encode("cafe\u0301 \u1112\u1161\u11ab"))


def test_a_split_that_changes_the_words_is_refused():
    with pytest.raises(ValueError, match="'HELLO' does not stand in ' hello you'"):
        spans(" hello you", lambda text: text.upper().split())
    with pytest.raises(ValueError, match="in order"):
        spans(" one two", lambda text: ["two", "one"])
    with pytest.raises(ValueError, match="non-empty"):
        spans(" one", lambda text: ["", "one"])


texts = st.text(
    st.sampled_from("ab é我们龘한\u0301\u1100\u1161\u11a8😀 \n,.") | st.characters(codec="utf-8"),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(texts, st.sampled_from([mixed_tokens, str.split]))
def test_a_span_is_the_tokens_that_own_the_bytes(text, split):
    """Against a list that names the token of every byte."""
    text = unicodedata.normalize("NFC", text)
    ids = LAYOUT.encode(text)
    sizes = [len(LAYOUT.tokenizer.encoding.decode_single_token_bytes(i)) for i in ids]
    owner = [token for token, size in enumerate(sizes) for _ in range(size)]
    wanted, position = [], 0
    for word in split(text):
        position = text.index(word, position)
        begin = len(text[:position].encode())
        position += len(word)
        wanted.append((word, owner[begin], owner[len(text[:position].encode()) - 1] + 1))
    assert word_spans(LAYOUT, ids, split) == wanted


@settings(max_examples=150, deadline=None)
@given(texts)
def test_text_of_any_form_has_the_words_of_its_composed_form(text):
    found = spans(text)
    assert [w for w, _, _ in found] == mixed_tokens(text)
    begins = [(first, last) for _, first, last in found]
    assert begins == sorted(begins)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, LAYOUT.eot + 20), max_size=12))
def test_any_ids_are_cut(ids):
    """Random ids, mostly broken UTF-8: words are those of the decoded text, spans inside."""
    found = word_spans(LAYOUT, ids, str.split)
    text = unicodedata.normalize("NFC", LAYOUT.decode(ids))
    assert [w for w, _, _ in found] == text.split()
    assert all(0 <= first < last <= len(ids) for _, first, last in found)
