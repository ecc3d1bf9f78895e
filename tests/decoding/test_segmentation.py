"""Words become segments at pauses, sentences and full lines; texts become lines of a subtitle."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_blora.decoding.segmentation import (
    LINES,
    WIDTH,
    divided,
    fits,
    into_segments,
    lines,
    spoken_words,
    width,
    with_punctuation,
)
from espnet_blora.decoding.timing import WordTime
from espnet_blora.decoding.transcript import Segment, Word
from espnet_blora.text.tokens import mixed_tokens
from tests.decoding.small import LAYOUT


def words(text, step=0.3, gaps=()):
    """Words of 0.2 s every `step` s; `gaps`: word number -> more seconds before it."""
    found, time = [], 0.0
    for number, word in enumerate(text.split()):
        time += dict(gaps).get(number, 0.0)
        found.append(Word(f" {word}" if number else word, time, time + 0.2, 0.9))
        time += step
    return found


def texts(segments):
    return ["".join(word.word for word in segment).strip() for segment in segments]


def test_pauses_and_sentences_end_a_segment():
    found = into_segments(words("so we went. and came back then home", gaps={5: 0.5}))
    assert texts(found) == ["so we went.", "and came", "back then home"]
    assert texts(into_segments(words("a b", step=0.7))) == ["a b"]  # a pause of 0.5 s is none yet


def test_a_full_segment_is_cut_behind_a_comma_or_at_a_pause():
    long = "we have a very long sentence here that goes on and on, until it does not fit any more"
    assert texts(into_segments(words(long))) == [
        "we have a very long sentence here that goes on and on,",
        "until it does not fit any more",
    ]
    plain = long.replace(",", "")
    found = texts(into_segments(words(plain, gaps={10: 0.2})))
    assert found[0].endswith("goes on") and found[1].startswith("and on")


@given(st.lists(st.text("abcdefgh你好世,. ", min_size=1, max_size=30), max_size=40))
def test_no_word_is_lost_and_all_segments_fit(parts):
    given_words = words(" ".join(parts))
    found = into_segments(given_words)
    assert [word for segment in found for word in segment] == given_words
    assert all(fits("".join(w.word for w in segment)) for segment in found if len(segment) > 1)
    assert all(found)


@given(st.text("abc de你好,。(）안", max_size=200))
def test_lines_hold_the_text_and_are_no_longer_than_allowed(text):
    found = lines(text)
    assert "".join("".join(found).split()) == "".join(text.split())
    for line in found:
        assert line == line.strip() and line
        longest = max((width(word) for word in line.split()), default=0)
        assert width(line) <= WIDTH or width(line) == longest or not line.isascii()


def test_two_lines_are_even():
    found = lines("in this part of the country nobody ever asks why that is so")
    assert found == ["in this part of the country", "nobody ever asks why that is so"]
    assert len(found) == LINES


def test_chinese_is_broken_between_characters_but_not_before_a_comma():
    text = "这是一个非常长的句子里面没有空格所以要在字之间断开，对吧我觉得"
    found = lines(text)
    assert "".join(found) == text and len(found) == 2
    assert abs(width(found[0]) - width(found[1])) <= 4
    assert not found[1].startswith("，")
    assert lines("한국어는 " * 12)[0].endswith("한국어는")
    assert width("你a\u0301") == 3


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
