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
@pytest.mark.parametrize("before", [None, "", "Names: Émile, 我们.", LONG])
def test_they_are_openais(model, task, before):
    options = DecodingOptions(task=task, language="zh", prompt=before, without_timestamps=True)
    wanted = DecodingTask(model, options).initial_tokens
    assert tuple(build_prompt(LAYOUT, "chinese", task, before)) == wanted


def test_the_plain_prompt_is_the_layouts():
    assert build_prompt(LAYOUT, "en") == LAYOUT.prompt("en")
    new = Vocabulary.of(51865, ["rw"])
    assert build_prompt(new, "rw") == new.prompt("rw")


def test_a_users_text_that_is_cut_is_reported(caplog):
    with caplog.at_level(logging.WARNING):
        build_prompt(LAYOUT, "en", initial_prompt="short")
        assert not caplog.records
        build_prompt(LAYOUT, "en", initial_prompt=LONG)
    assert "initial_prompt: 300 tokens, of which the last 223 are used" in caplog.text


def test_an_unknown_language_is_refused():
    with pytest.raises(ValueError, match="language 'xx'"):
        build_prompt(LAYOUT, "xx")
