"""Filters against the code they imitate: openai-whisper's classes and HF's n-gram processor."""

import pytest
import torch
from whisper.decoding import ApplyTimestampRules, DecodingOptions, DecodingTask

from espnet_blora.decoding.filters import (
    MinTokens,
    NoRepeatNgram,
    Suppress,
    TimestampRules,
    build_filters,
    suppressed,
)
from espnet_blora.decoding.options import DecodingOptions as Options
from espnet_blora.whisper.vocabulary import Vocabulary
from tests.whispers import random_whisper

LAYOUT = Vocabulary.of(51865)
BEGIN = LAYOUT.timestamp_begin


@pytest.fixture(scope="module", params=[51865, 51866])
def model(request):
    return random_whisper(8, heads=1, vocab=request.param)


def noise(rows, n_vocab=51865, timestamps=0.0):
    logits = torch.randn(rows, n_vocab)
    logits[:, BEGIN:] += timestamps
    return logits


def banned(one, logits, texts):
    logits = logits.clone()
    one(logits, texts)
    return [set(row.nonzero().flatten().tolist()) for row in torch.isinf(logits)]


@pytest.mark.parametrize(
    "option", ["-1", "", None, "50", "-1,50,51", [50, 51], [-1, 50], [], "50257"]
)
def test_suppressed_ids_are_openais(model, option):
    task = DecodingTask(model, DecodingOptions(suppress_tokens=option))
    theirs = [f for f in task.logit_filters if type(f).__name__ == "SuppressTokens"]
    wanted = sorted(theirs[0].suppress_tokens) if theirs else []
    assert suppressed(Vocabulary.of(model.dims.n_vocab), option) == wanted
    assert bool(wanted) == bool(option)


@pytest.mark.parametrize("option", ["1;2", "51865", "-2", "a", [60000]])
def test_ids_that_are_none_are_refused(option):
    with pytest.raises(ValueError, match=r"suppress_tokens.*allowed: ids from 0 to 51864"):
        suppressed(LAYOUT, option)


def histories(layout, rows, length, generator):
    """Random ids of texts and timestamps, in every order; times mostly rise."""
    text = torch.randint(0, layout.eot, (rows, length), generator=generator)
    rise = torch.randint(0, 40, (rows, length), generator=generator).cumsum(1)
    times = (layout.timestamp_begin + rise).clamp(max=layout.n_vocab - 1)
    pick = torch.rand(rows, length, generator=generator) < 0.4
    return torch.where(pick, times, text)


@pytest.mark.parametrize("initial", [1.0, None, 0.0, 5.3])
def test_timestamp_rules_are_openais(model, initial):
    layout = Vocabulary.of(model.dims.n_vocab)
    sample_begin = 3
    options = DecodingOptions(max_initial_timestamp=initial)
    reference = DecodingTask(model, options).logit_filters[-1]
    assert isinstance(reference, ApplyTimestampRules) and reference.sample_begin == sample_begin
    ours = TimestampRules(layout, initial)
    generator = torch.Generator().manual_seed(3)
    shapes = set()
    for length in (0, 1, 2, 3, 9):
        texts = histories(layout, 12, length, generator)
        if length > 2:
            texts[0, -3:] = torch.tensor([5, layout.n_vocab - 1, layout.n_vocab - 1])
            texts[1, -2:] = layout.eot
        prompt = torch.full((12, sample_begin), layout.sot)
        for lift in (-6.0, 0.0, 6.0):  # timestamps unlikely, even, likely
            mine = torch.randn(12, layout.n_vocab, generator=generator)
            mine[:, layout.timestamp_begin :] += lift
            theirs = mine.clone()
            ours(mine, texts)
            reference.apply(theirs, torch.cat([prompt, texts], 1))
            assert torch.equal(mine, theirs), (length, lift)
            shapes.update(torch.isinf(mine).sum(1).tolist())
    assert len(shapes) > 8  # many different rules applied


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_ngrams_are_those_of_transformers(size):
    transformers = pytest.importorskip("transformers")
    reference = transformers.NoRepeatNGramLogitsProcessor(size)
    generator = torch.Generator().manual_seed(size)
    counts = set()
    for length in range(12):
        texts = torch.randint(0, 3, (5, length), generator=generator)
        logits = torch.randn(5, 20, generator=generator)
        wanted = reference(texts, logits.clone())
        NoRepeatNgram(size)(logits, texts)
        assert torch.equal(logits, wanted), length
        counts.update(torch.isinf(logits).sum(1).tolist())
    assert counts >= {0, 1}


def test_each_filter_bans_what_it_says():
    logits, none, one = noise(2), torch.zeros(2, 0, dtype=torch.long), torch.tensor([[7], [8]])
    assert banned(Suppress([5, 9, 5]), logits, one) == [{5, 9}] * 2
    assert banned(MinTokens(2, LAYOUT.eot), logits, one) == [{LAYOUT.eot}] * 2
    two = torch.tensor([[7, 7], [8, 8]])
    assert banned(MinTokens(2, LAYOUT.eot), logits, two) == [set()] * 2
    blank = build_filters(LAYOUT, Options(suppress_tokens=""))
    assert len(blank) == 1
    assert banned(blank[0], logits, none) == [{*LAYOUT.encode(" "), LAYOUT.eot}] * 2
    assert banned(blank[0], logits, one) == [set()] * 2
    assert banned(NoRepeatNgram(1), logits, one) == [{7}, {8}]


def test_options_choose_the_filters_and_their_order():
    def names(without_timestamps=True, **options):
        filters = build_filters(LAYOUT, Options(**options), without_timestamps)
        return [type(one).__name__ for one in filters]

    assert names() == ["SuppressBlank", "Suppress"]
    assert names(suppress_tokens="", suppress_blank=False) == names(rule="espnet") == []
    assert names(rule="espnet", suppress_tokens="-1", suppress_blank=True) == names()
    everything = names(without_timestamps=False, no_repeat_ngram_size=3, min_tokens=2)
    assert everything == [
        "SuppressBlank", "Suppress", "MinTokens", "NoRepeatNgram", "TimestampRules",
    ]  # fmt: skip


def test_a_negative_first_timestamp_is_refused():
    with pytest.raises(ValueError, match="max_initial_timestamp is -1"):
        build_filters(LAYOUT, Options(), max_initial_timestamp=-1)
