"""Batched greedy search: the same ids one by one, without a cache, and in any company."""

import pytest
import torch
from whisper.model import ModelDimensions, Whisper

from espnet_blora.decoding.greedy import greedy, pad
from espnet_blora.whisper.decoder import forward
from espnet_blora.whisper.encoder import encode
from espnet_blora.whisper.vocabulary import Layout

LENGTHS = (16000, 9000, 4000, 700)


@pytest.fixture(scope="module")
def setting():
    torch.manual_seed(5)
    model = Whisper(ModelDimensions(80, 1500, 32, 2, 2, 51865, 64, 32, 2, 2)).eval()
    torch.nn.init.normal_(model.decoder.positional_embedding)
    layout = Layout.of(51865)
    model.decoder.token_embedding.weight.data[layout.eot] *= 1.6  # some rows end early
    waves = [0.1 * torch.randn(n) for n in LENGTHS]
    prompts = [layout.prompt(code) for code in ("zh", "en", "zh", "en")]
    return model, layout, waves, prompts


@torch.no_grad()
def uncached(model, layout, wave, prompt):
    """The definition: the whole sequence anew for every token."""
    memory, lengths = encode(model.encoder, wave.unsqueeze(0), torch.tensor([len(wave)]))
    ids = list(prompt)
    for _ in range(min(int(lengths), 64 - len(prompt))):
        best = int(forward(model.decoder, torch.tensor([ids]), memory, lengths)[0, -1].argmax())
        if best == layout.eot:
            break
        ids.append(best)
    return ids[len(prompt) :]


def test_batch_equals_single_equals_uncached(setting):
    model, layout, waves, prompts = setting
    batch = greedy(model.encoder, model.decoder, waves, prompts, layout.eot)
    for i, (wave, prompt) in enumerate(zip(waves, prompts, strict=True)):
        assert batch[i] == uncached(model, layout, wave, prompt)
        assert [batch[i]] == greedy(model.encoder, model.decoder, [wave], [prompt], layout.eot)
    assert len({len(row) for row in batch}) > 1
    assert max(len(row) for row in batch) <= 60


def test_unequal_prompts_are_refused(setting):
    model, layout, waves, prompts = setting
    with pytest.raises(ValueError, match="one prompt an utterance"):
        greedy(model.encoder, model.decoder, waves, prompts[:2], layout.eot)
    with pytest.raises(ValueError, match=r"lengths \[4, 3\]"):
        greedy(model.encoder, model.decoder, waves[:2], [prompts[0], [1, 2, 3]], layout.eot)


def test_no_more_tokens_than_the_ratio_allows(setting):
    model, layout, waves, prompts = setting
    free = greedy(model.encoder, model.decoder, waves, prompts, layout.eot)
    short = greedy(model.encoder, model.decoder, waves, prompts, layout.eot, maxlenratio=0.2)
    _, lengths = encode(model.encoder, *pad(waves))
    for row, kept, n in zip(free, short, lengths.tolist(), strict=True):
        assert kept == row[: max(1, int(0.2 * n))]
    assert free != short
