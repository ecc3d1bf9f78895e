"""Prompts are openai-whisper's, token by token."""

import logging

import pytest
from whisper.decoding import DecodingOptions, DecodingTask

from espnet_blora.decoding.prompts import build_prompt
from espnet_blora.whisper.vocabulary import Vocabulary
from tests.whispers import random_whisper

LAYOUT = Vocabulary.of(51865)
LONG = "one two three four five " * 60


@pytest.fixture(scope="module")
def model():
    return random_whisper(8, heads=1)


@pytest.mark.parametrize("task", ["transcribe", "translate"])
@pytest.mark.parametrize("timestamps", [False, True])
@pytest.mark.parametrize("before", [None, "", "Names: Émile, 我们.", LONG, [1, 2, 3]])
@pytest.mark.parametrize(("prefix", "limit"), [
    (None, None), (" so far", None), ([5, 6], None), ("one two three four five six", 220),
    (LONG, 100), ("so far", 100),
])  # fmt: skip
def test_they_are_openais(model, task, timestamps, before, prefix, limit):
    options = DecodingOptions(
        task=task, language="zh", prompt=before, prefix=prefix, sample_len=limit,
        without_timestamps=not timestamps,
    )  # fmt: skip
    wanted = DecodingTask(model, options).initial_tokens
    found = build_prompt(
        LAYOUT, "chinese", task, before, prefix, timestamps=timestamps, max_tokens=limit
    )
    assert tuple(found) == wanted


def test_the_plain_prompt_is_the_layouts():
    assert build_prompt(LAYOUT, "en") == LAYOUT.prompt("en")
    new = Vocabulary.of(51865, ["rw"])
    assert build_prompt(new, "rw", timestamps=True) == new.prompt("rw")[:3]


def test_a_prefix_is_whole_where_the_limit_leaves_no_half():
    """openai-whisper drops the first ten tokens here."""
    found = build_prompt(LAYOUT, "en", prefix=list(range(12)), max_tokens=234)
    assert found[4:] == list(range(12))


def test_a_users_text_that_is_cut_is_reported(caplog):
    with caplog.at_level(logging.WARNING):
        build_prompt(LAYOUT, "en", initial_prompt="short", prefix="also short")
        build_prompt(LAYOUT, "en", initial_prompt=list(range(500)))  # a program's, on purpose
        assert not caplog.records
        build_prompt(LAYOUT, "en", initial_prompt=LONG)
    assert "initial_prompt: 300 tokens, of which the last 223 are used" in caplog.text


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="task 'say'; allowed: transcribe, translate"):
        build_prompt(LAYOUT, "en", "say")
    with pytest.raises(ValueError, match=r"prefix: ids \[-1, 99999\]"):
        build_prompt(LAYOUT, "en", prefix=[-1, 7, 99999])
    with pytest.raises(ValueError, match="language 'xx'"):
        build_prompt(LAYOUT, "xx")
    with pytest.raises(ValueError, match=r"304 tokens \(0 of previous text, 300 of the prefix\)"):
        build_prompt(LAYOUT, "en", prefix=[9] * 300, n_text_ctx=300)
