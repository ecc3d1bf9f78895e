"""Filters against the code they imitate: openai-whisper's classes and HF's n-gram processor."""

import pytest
import torch
from whisper.decoding import DecodingOptions, DecodingTask

from espnet_blora.decoding.filters import (
    MinTokens,
    NoRepeatNgram,
    Suppress,
    build_filters,
    suppressed,
)
from espnet_blora.decoding.options import DecodingOptions as Options
from espnet_blora.whisper.vocabulary import Vocabulary
from tests.whispers import random_whisper

LAYOUT = Vocabulary.of(51865)


@pytest.fixture(scope="module", params=[51865, 51866])
def model(request):
    return random_whisper(8, heads=1, vocab=request.param)


def noise(rows, n_vocab=51865):
    return torch.randn(rows, n_vocab)


def banned(one, logits, texts):
    logits = logits.clone()
    one(logits, texts)
    return [set(row.nonzero().flatten().tolist()) for row in torch.isinf(logits)]


@pytest.mark.parametrize("option", ["-1", "", "50", "-1,50,51", "50257"])
def test_suppressed_ids_are_openais(model, option):
    task = DecodingTask(model, DecodingOptions(suppress_tokens=option))
    theirs = [f for f in task.logit_filters if type(f).__name__ == "SuppressTokens"]
    wanted = sorted(theirs[0].suppress_tokens) if theirs else []
    assert suppressed(Vocabulary.of(model.dims.n_vocab), option) == wanted
    assert bool(wanted) == bool(option)


@pytest.mark.parametrize("option", ["1;2", "51865", "-2", "a", "60000"])
def test_ids_that_are_none_are_refused(option):
    with pytest.raises(ValueError, match=r"suppress_tokens.*allowed: ids from 0 to 51864"):
        suppressed(LAYOUT, option)


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
    def names(**options):
        return [type(one).__name__ for one in build_filters(LAYOUT, Options(**options))]

    assert names() == ["SuppressBlank", "Suppress"]
    assert names(suppress_tokens="", suppress_blank=False) == names(rule="espnet") == []
    assert names(rule="espnet", suppress_tokens="-1", suppress_blank=True) == names()
    everything = names(no_repeat_ngram_size=3, min_tokens=2)
    assert everything == ["SuppressBlank", "Suppress", "MinTokens", "NoRepeatNgram"]
