"""Log likelihoods of texts: the model's own probabilities, one token after another."""

import pytest
import torch

from espnet_blora.decoding.confidence import text_nll
from espnet_blora.whisper.vocabulary import Vocabulary
from tests.whispers import random_whisper

LAYOUT = Vocabulary.of(51865)


@pytest.fixture(scope="module")
def model():
    return random_whisper(context=16).requires_grad_(False)


def arguments(model, text=(10, 20, 30)):
    wave = 0.1 * torch.randn(4000, generator=torch.Generator().manual_seed(1))
    return model.encoder, model.decoder, wave, LAYOUT.prompt("zh"), list(text), LAYOUT.eot


def test_it_is_the_chain_rule_over_whispers_own_logits(model):
    """With 30 s of padding the figures are openai-whisper's."""
    encoder, decoder, wave, prompt, text, eot = arguments(model)
    found, count = text_nll(encoder, decoder, wave, prompt, text, eot, pad_to="30s")
    from whisper import log_mel_spectrogram, pad_or_trim

    memory = encoder(log_mel_spectrogram(pad_or_trim(wave)).unsqueeze(0))
    ids, total = [*prompt], 0.0
    for token in [*text, eot]:
        logits = decoder(torch.tensor([ids]), memory)[0, -1]
        total -= float(logits.log_softmax(-1)[token])
        ids.append(token)
    assert count == 4
    torch.testing.assert_close(float(found), total, rtol=1e-5, atol=0)


def test_an_empty_text_is_its_end(model):
    found, count = text_nll(*arguments(model, text=()))
    assert count == 1 and 0 < float(found) < float(text_nll(*arguments(model))[0])


def test_drawn_tokens_come_from_the_model(model):
    def drawn(seed):
        return float(text_nll(*arguments(model), sampler=torch.Generator().manual_seed(seed))[0])

    given = float(text_nll(*arguments(model))[0])
    assert drawn(0) == drawn(0) != drawn(1) and given not in (drawn(0), drawn(1))
    bias = model.decoder.token_embedding.weight.clone()
    try:  # a model that is all but certain draws what it is certain of
        model.decoder.token_embedding.weight.mul_(100.0)
        assert drawn(0) == drawn(1) < 1e-3
    finally:
        model.decoder.token_embedding.weight.copy_(bias)


def test_gradients_reach_both_halves(model):
    weights = [model.encoder.blocks[0].mlp[0].weight, model.decoder.blocks[0].attn.query.weight]
    for weight in weights:
        weight.requires_grad_(True)
    try:
        gradients = torch.autograd.grad(text_nll(*arguments(model))[0], weights)
    finally:
        model.requires_grad_(False)
    assert all(gradient.abs().max() > 0 for gradient in gradients)
