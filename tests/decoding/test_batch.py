"""Sets in batches: whatever the batch size and the order, the same texts; halves that fit."""

import dataclasses

import pytest
import torch

from espnet_blora.decoding import batch
from espnet_blora.decoding.recogniser import Recogniser
from tests.decoding.small import LAYOUT, search_options, utterances
from tests.whispers import ending, lively

OPTIONS = search_options(3, 3, maxlenratio=-6)


@pytest.fixture(scope="module")
def opened():
    model = ending(lively(n_text_ctx=64), LAYOUT.eot).requires_grad_(False)
    return Recogniser(model.encoder, model.decoder, LAYOUT, "batch", [], "lively")


def of_size(batch_size):
    return dataclasses.replace(OPTIONS, batch_size=batch_size)


def ids(found):
    return {uid: [h.ids for h in nbest] for uid, nbest in found.items()}


def test_batch_size_changes_nothing_and_the_order_is_kept(opened):
    waves, prompts = utterances()
    one = batch.decode(opened, waves, prompts, of_size(1))
    assert list(one) == list(waves)
    for size in (2, 3, 16):
        assert ids(batch.decode(opened, waves, prompts, of_size(size))) == ids(one)
    assert len({h.ids for nbest in one.values() for h in nbest}) >= 3  # the model does listen


def test_prompts_of_other_lengths_are_batched_apart(opened):
    waves, prompts = utterances()
    prompts["c"] = [LAYOUT.sot, 50, *prompts["c"]]
    found = batch.decode(opened, waves, prompts, OPTIONS)
    alone = batch.decode(opened, {"c": waves["c"]}, prompts, OPTIONS)
    assert ids(found)["c"] == ids(alone)["c"]
    assert sorted(map(len, batch.by_length(waves, prompts, 16))) == [1, 3]
    order = [uid for one in batch.by_length(waves, utterances()[1], 2) for uid in one]
    assert order == ["c", "d", "b", "a"]  # the longest first


def test_what_cannot_be_decoded(opened):
    waves, prompts = utterances()
    lacking = {uid: prompt for uid, prompt in prompts.items() if uid != "a"}
    with pytest.raises(ValueError, match="no prompt .* for 1 utterances, first a"):
        batch.decode(opened, waves, lacking, OPTIONS)
    with pytest.raises(ValueError, match="utterance b: the encoder's output is not finite"):
        batch.decode(opened, waves | {"b": torch.full((2500,), torch.nan)}, prompts, OPTIONS)
    with pytest.raises(ValueError, match="lasts 31.00 s") as caught:
        batch.decode(opened, {"a": torch.zeros(31 * 16000)}, prompts, OPTIONS)
    assert caught.value.__notes__ == ["while decoding the utterances a"]


def test_a_batch_that_does_not_fit_the_memory_is_halved(opened, monkeypatch):
    waves, prompts = utterances()
    sizes, real = [], batch.search

    def small_memory(decoder, memory, *rest):
        sizes.append(len(memory))
        if len(memory) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return real(decoder, memory, *rest)

    wanted = ids(batch.decode(opened, waves, prompts, OPTIONS))
    monkeypatch.setattr(batch, "search", small_memory)
    assert ids(batch.decode(opened, waves, prompts, OPTIONS)) == wanted
    assert sizes == [4, 2, 1, 1, 2, 1, 1]

    def no_memory(*rest):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(batch, "search", no_memory)
    with pytest.raises(RuntimeError, match=r"utterance c \(9000 samples\) does not fit"):
        batch.decode(opened, waves, prompts, OPTIONS)
