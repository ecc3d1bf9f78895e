"""Words of a piece: with their blanks and punctuation, without the quiet around them."""

import pytest

from espnet_blora.decoding.spoken import divided, spoken_words, with_punctuation
from espnet_blora.decoding.timing import WordTime
from espnet_blora.decoding.transcript import Segment
from espnet_blora.text.tokens import mixed_tokens
from tests.decoding.small import LAYOUT


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("我们, really (really)!", ["我", "们,", "really", "(really)!"]),
        ("「好」，去吧。", ["「好」，", "去", "吧。"]),
        ("a — b", ["a —", "b"]),
        ("… so", ["… so"]),
        ("好 ( 很", ["好", "( 很"]),
        ("...", ["..."]),
        ("a (", ["a ("]),
        ("", []),
    ],
)
def test_punctuation_stays_at_its_word(text, words):
    assert with_punctuation(mixed_tokens)(text) == words


def test_words_join_to_their_text():
    text = " 我们 go 吧"
    times = [WordTime(w, i, i + 0.5, 0.9) for i, w in enumerate(["我", "们", "go", "吧"])]
    words = spoken_words(text, times, None, begin=10.0)
    assert "".join(word.word for word in words) == text
    assert [w.word for w in words] == [" 我", "们", " go", " 吧"]
    assert (words[2].start, words[2].end, words[2].probability) == (12.0, 12.5, 0.9)


def test_tokens_go_where_their_words_go():
    ids = tuple(LAYOUT.encode(" we went. 他们走了"))
    text = LAYOUT.decode(ids)
    split = with_punctuation(mixed_tokens)
    times = [WordTime(w, i, i + 0.9, 0.9) for i, w in enumerate(split(text))]
    whole = Segment(0.0, 9.0, text, ids, -0.5, complete=False, extra={"confidence": 0.5})
    found = divided(whole, spoken_words(text, times, None), LAYOUT, split)
    assert [segment.text for segment in found] == [" we went.", " 他们走了"]
    assert [LAYOUT.decode(segment.tokens) for segment in found] == [" we went.", " 他们走了"]
    assert [(segment.start, segment.end) for segment in found] == [(0, 1.9), (2, 5.9)]
    assert not any(s.complete for s in found) and found[1].extra == {"confidence": 0.5}
    (empty,) = divided(whole, [], LAYOUT, split)
    assert empty.words == () and empty.text == text
