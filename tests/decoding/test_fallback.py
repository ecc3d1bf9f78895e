"""What a text must be to be believed, and what is tried: as openai-whisper's `transcribe` does."""

import dataclasses
import inspect
import math

import numpy as np
import pytest
import torch
from whisper.transcribe import transcribe

from espnet_blora.decoding import fallback
from espnet_blora.decoding.batch import drawing, encode_batch
from espnet_blora.decoding.beam import Hypothesis
from espnet_blora.decoding.fallback import Try, find_texts, temperatures
from espnet_blora.decoding.filters import build_filters
from espnet_blora.decoding.options import DecodingOptions
from espnet_blora.decoding.transcriber import Transcriber
from tests.decoding.small import LAYOUT, opened, recogniser, utterances
from tests.whispers import random_whisper

WAVES, PROMPTS = utterances()
PLAIN = DecodingOptions(language="en", beam_size=1, max_tokens=6, drop_quiet=False)


def made(avg_logprob=-0.5, text="a few words", no_speech=0.0, temperature=0.0):
    hypothesis = Hypothesis((1, 2, 3), 4 * avg_logprob, True, no_speech)
    return Try(temperature, hypothesis, (1, 2, 3, LAYOUT.eot), text, hypothesis.score)


@pytest.mark.parametrize(
    ("one", "doubtful", "silent"),
    [
        (made(), False, False),
        (made(avg_logprob=-1.01), True, False),
        (made(text="black " * 40), True, False),
        (made(avg_logprob=-1.01, no_speech=0.61), False, True),
        (made(avg_logprob=-0.99, no_speech=0.99), False, False),
        (made(avg_logprob=-1.01, text="black " * 40, no_speech=0.61), False, True),
    ],
)
def test_what_is_believed(one, doubtful, silent):
    options = DecodingOptions()
    assert (one.doubtful(options), one.silent(options)) == (doubtful, silent)
    off = DecodingOptions(
        compression_ratio_threshold=math.inf, logprob_threshold=-math.inf, no_speech_threshold=1
    )
    assert not one.doubtful(off) and not one.silent(off)


def test_defaults_are_openai_whispers():
    theirs, ours = inspect.signature(transcribe).parameters, DecodingOptions()
    for name in ("compression_ratio_threshold", "logprob_threshold", "no_speech_threshold"):
        assert getattr(ours, name) == theirs[name].default, name
    assert tuple(temperatures(ours)) == theirs["temperature"].default


@pytest.mark.parametrize(
    ("first", "step", "expected"),
    [(0.0, 0.2, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0.4, 0.3, [0.4, 0.7, 1]), (0.3, 0, [0.3])],
)
def test_temperatures_rise_to_one(first, step, expected):
    options = DecodingOptions(temperature=first, temperature_increment_on_fallback=step)
    assert temperatures(options) == expected


def test_what_is_taken_where_nothing_is_believed():
    loop, poor, worse = made(text="no " * 99), made(-1.5), made(-2.0)
    options = DecodingOptions()
    assert fallback._taken([loop, worse, poor], options) is poor
    assert fallback._taken([poor, made(-0.9)], options).avg_logprob == -0.9
    assert fallback._taken([loop, made(text="no " * 50)], options).text


@pytest.fixture(scope="module")
def small():
    return recogniser()


def found(model, names, options, n=1):
    waves = [WAVES[name] for name in names]
    with drawing(model, options):
        memory, lengths = encode_batch(model, waves * n, list(names) * n)
        filters = build_filters(LAYOUT, options)
        return find_texts(model, (memory, lengths), [PROMPTS["a"]] * len(names), options, filters)


@pytest.mark.parametrize("samples", [0, 2])
def test_only_what_is_doubtful_is_tried_again_and_the_batch_changes_nothing(small, samples):
    """The threshold lies between the texts' probabilities; draws are the same in any company."""
    options = dataclasses.replace(
        PLAIN, samples=samples, temperature_increment_on_fallback=0,
        compression_ratio_threshold=math.inf,
    )  # fmt: skip
    first = found(small, "abcd", options, samples or 1)
    between = float(np.mean(sorted(one.avg_logprob for one in first)[1:3]))
    again = dataclasses.replace(
        options, temperature_increment_on_fallback=0.5, logprob_threshold=between
    )
    second = found(small, "abcd", again, samples or 1)
    for name, one, other in zip("abcd", first, second, strict=True):
        if one.avg_logprob >= between:
            assert other == one and other.temperature == 0
        else:
            assert other.avg_logprob >= one.avg_logprob
            assert other.temperature > 0 or other == one
        (alone,) = found(small, name, again, samples or 1)
        assert (alone.temperature, alone.hypothesis.ids) == (
            other.temperature, other.hypothesis.ids
        )  # fmt: skip


def test_a_penalty_of_the_search_makes_no_text_more_probable(small):
    """Greedy, a penalty per token changes no choice, and so no probability."""
    options = dataclasses.replace(PLAIN, rule="espnet", suppress_tokens="")
    plain, raised = (
        found(small, "abcd", dataclasses.replace(options, penalty=penalty))
        for penalty in (0.0, 2.0)
    )
    for one, other in zip(plain, raised, strict=True):
        assert one.hypothesis.ids == other.hypothesis.ids
        assert one.avg_logprob == pytest.approx(other.avg_logprob, abs=1e-4)


def test_draws_follow_the_distribution_of_their_temperature(small):
    """First tokens of 400 seeds: as often as the softmax of logits / temperature says."""
    options = dataclasses.replace(PLAIN, temperature=1.0, max_tokens=1)
    counts: dict = {}
    memory, lengths = encode_batch(small, [WAVES["a"]], ["a"])
    for seed in range(400):
        how = dataclasses.replace(options, seed=seed, temperature_increment_on_fallback=0)
        (one,) = find_texts(small, (memory, lengths), [PROMPTS["a"]], how, [])
        counts.setdefault(one.hypothesis.ids, []).append(one.hypothesis.score)
    scores = max(counts.values(), key=len)
    chance = math.exp(scores[0])
    assert len(set(scores)) == 1 and len(counts) > 1
    assert abs(len(scores) / 400 - chance) < 4 * math.sqrt(chance * (1 - chance) / 400)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("beam_size", [1, 3])
def test_figures_are_openai_whispers(beam_size):
    """Texts, probabilities, ratios and seeks of its `transcribe` in its window, one temperature."""
    model = random_whisper(context=24)
    weight = model.decoder.token_embedding.weight.data
    weight[LAYOUT.eot] *= 4
    weight[LAYOUT.tokenizer.no_speech] *= 5  # probabilities of about a half
    model.requires_grad_(False)
    ours = dataclasses.replace(opened(model), pad_to="30s")
    options = DecodingOptions(
        language="en", beam_size=beam_size, drop_quiet=False, temperature_increment_on_fallback=0
    )
    generator = torch.Generator().manual_seed(3)
    waves = {name: torch.randn(480000, generator=generator) * level
             for name, level in (("a", 0.1), ("b", 0.01))}  # fmt: skip
    results = {t.name: t for t in Transcriber(ours, options).transcribe(waves)}
    for name, wave in waves.items():
        theirs = transcribe(
            model, wave, language="en", temperature=0.0, without_timestamps=True, fp16=False,
            beam_size=beam_size if beam_size > 1 else None, condition_on_previous_text=False,
        )  # fmt: skip
        (mine,) = results[name].as_dict()["segments"]
        (other,) = theirs["segments"]
        assert other.keys() - {"words"} <= mine.keys()
        assert mine["tokens"] == [i for i in other["tokens"] if i < LAYOUT.eot]
        assert mine["seek"] == other["seek"] == 0 and mine["temperature"] == other["temperature"]
        for figure in ("avg_logprob", "compression_ratio", "no_speech_prob"):
            assert mine[figure] == pytest.approx(other[figure], abs=1e-4), figure
        assert 0.4 < mine["no_speech_prob"] < 0.6


def test_silence_by_the_models_own_word_has_no_segment(small, monkeypatch):
    searched = fallback.best_texts

    def silent(*given):
        best, tokens = searched(*given)
        return [dataclasses.replace(one, no_speech_prob=0.9) for one in best], tokens

    monkeypatch.setattr(fallback, "best_texts", silent)
    sure = dataclasses.replace(PLAIN, logprob_threshold=-math.inf)
    assert all(t.segments for t in Transcriber(small, sure).transcribe(WAVES))
    doubtful = dataclasses.replace(PLAIN, logprob_threshold=0.0)
    for transcript in Transcriber(small, doubtful).transcribe(WAVES):
        assert transcript.segments == () and not transcript.error
        assert transcript.notes == (f"0.0 to {transcript.duration:.1f} s taken for silence",)


def test_a_piece_is_prompted_with_the_text_before_it(small, monkeypatch):
    """In order and one by one, the end of what was said; nothing after a high temperature."""
    given = []

    def watched(model, encoded, prompts, *more):
        given.extend(prompts)
        return find_texts(model, encoded, prompts, *more)

    monkeypatch.setattr("espnet_blora.decoding.transcriber.find_texts", watched)
    torch.manual_seed(0)
    wave = 0.1 * torch.randn(9 * 16000)
    options = dataclasses.replace(
        PLAIN, chunk_length=3, condition_on_previous_text=True, initial_prompt="Acme",
        temperature_increment_on_fallback=0,
    )  # fmt: skip
    (transcript,) = Transcriber(small, options).transcribe({"a": wave})
    start, acme = LAYOUT.prompt("en"), LAYOUT.encode(" Acme")
    said: list = []
    room = 24 // 2 - 1 - len(acme)
    assert len(given) == len(transcript.segments) >= 3
    for prompt, segment in zip(given, transcript.segments, strict=True):
        assert prompt == [LAYOUT.tokenizer.sot_prev, *acme, *said[-room:], *start]
        said += segment.tokens
    given.clear()
    hot = dataclasses.replace(options, temperature=0.6)
    (transcript,) = Transcriber(small, hot).transcribe({"a": wave})
    assert {segment["temperature"] for segment in transcript.as_dict()["segments"]} == {0.6}
    assert {tuple(prompt) for prompt in given} == {(LAYOUT.tokenizer.sot_prev, *acme, *start)}
