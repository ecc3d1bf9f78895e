"""Packed layers: the same products, the same logits, nothing packed where it cannot be."""

import pytest
import torch
from torch import nn

from espnet_blora import add_adapter
from espnet_blora.whisper import packed
from espnet_blora.whisper.decoder import KVCache, forward
from espnet_blora.whisper.encoder import encode
from tests.whispers import random_whisper

needed = pytest.mark.skipif(not packed.available(), reason="this torch lacks oneDNN's operators")


@pytest.fixture
def model():
    return random_whisper(32, (2, 2), context=24).requires_grad_(False)


def test_the_locked_torch_has_the_operators():
    assert packed.available()


@needed
@pytest.mark.parametrize("shape", [(1, 48), (7, 48), (2, 3, 48), (40, 1, 48)])
@pytest.mark.parametrize("biased", [True, False])
def test_a_packed_layer_is_the_layer(shape, biased):
    torch.manual_seed(1)
    linear = nn.Linear(48, 96, bias=biased).requires_grad_(False)
    x = torch.randn(shape)
    with torch.inference_mode():
        found = packed.PackedLinear(linear.weight, linear.bias)(x)
    torch.testing.assert_close(found, linear(x), atol=1e-5, rtol=0)


@needed
def test_a_packed_whisper_says_the_same(model):
    torch.manual_seed(2)
    wave, lengths = 0.1 * torch.randn(2, 9000), torch.tensor([9000, 5000])
    tokens = torch.randint(0, 50000, (2, 6))
    memory, n = encode(model.encoder, wave, lengths)
    wanted = forward(model.decoder, tokens, memory, n)
    linears = sum(isinstance(m, nn.Linear) for m in model.modules())
    assert packed.pack(model.encoder) + packed.pack(model.decoder) == linears
    assert not any(isinstance(m, nn.Linear) for m in model.modules())
    with torch.inference_mode():
        memory_packed, _ = encode(model.encoder, wave, lengths)
        found = forward(model.decoder, tokens, memory_packed, n)
        step = KVCache(model.decoder, memory_packed, n).step(tokens)
    bound = 1e-5 * wanted.abs().max()
    assert (memory_packed - memory).abs().max() <= 1e-5 * memory.abs().max()
    assert (found - wanted).abs().max() <= bound
    assert (step - wanted[:, -1]).abs().max() <= bound


@needed
def test_small_layers_and_adapted_ones_stay(model):
    add_adapter(model, "lora", rank=2, target_modules=["query"])
    model.requires_grad_(False)
    queries = sum(name.endswith("query") for name, _ in model.decoder.named_modules())
    large = 32 * 128  # the MLP's, in a Whisper of width 32
    assert packed.pack(model.decoder, large) == 4
    assert packed.pack(model.decoder) == 2 * 2 * 4 - queries
    assert all(
        isinstance(m, nn.Linear) for n, m in model.decoder.named_modules() if n.endswith("query")
    )


def test_nothing_is_packed_without_the_operators(model, monkeypatch, caplog):
    def missing(weight):
        raise AttributeError("no such operator")

    monkeypatch.setattr(packed, "_pack", missing)
    packed.available.cache_clear()
    try:
        with caplog.at_level("INFO"):
            assert packed.pack(model.decoder) == 0
        assert "not packed for oneDNN: no such operator" in caplog.text
        assert not hasattr(model.decoder, "packed_logits")
    finally:
        packed.available.cache_clear()


def test_other_precisions_are_left_alone(model):
    assert packed.pack(model.encoder.to(torch.bfloat16)) == 0
