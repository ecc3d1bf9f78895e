"""A model turned towards its base and back: scales, interpolation, and nothing left behind."""

import copy

import pytest
import torch
from whisper.model import Whisper

from espnet_blora import add_adapter
from espnet_blora.decoding.scaling import interpolated, moved
from tests.decoding.small import opened
from tests.whispers import random_whisper


@pytest.fixture
def model() -> Whisper:
    return random_whisper(32, context=16)


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_interpolation_moves_every_weight_and_restores_it(model):
    base = copy.deepcopy(model.state_dict())
    torch.manual_seed(1)
    for p in model.parameters():
        p.data.add_(torch.randn_like(p))
    trained, start = (
        flat(model),
        torch.cat([base[n].flatten() for n, _ in model.named_parameters()]),
    )
    for factor in (0.0, 0.25, 1.0):
        with interpolated(model, base, factor):
            torch.testing.assert_close(flat(model), start + factor * (trained - start))
        assert torch.equal(flat(model), trained)
    named = opened(model).as_trained().state_dict()
    with pytest.raises(RuntimeError, match="stop"), moved(opened(model), 0.5, named):
        raise RuntimeError("stop")
    assert torch.equal(flat(model), trained)


def test_an_adapters_scale_is_interpolation_of_its_weights(model):
    adapter = add_adapter(model, "lora", rank=4, target_modules=["query"])
    for layer in adapter.layers.values():
        torch.nn.init.normal_(layer.lora_B)
    layer = model.encoder.blocks[0].attn.query
    x = torch.randn(3, 32)
    with torch.no_grad():
        base, full = layer.weight @ x.T, layer(x)
        with moved(opened(model), 0.5):
            half = layer(x)
        torch.testing.assert_close(layer(x), full)
        torch.testing.assert_close(half, (base.T + layer.bias + full) / 2)


def test_without_adapter_and_base_only_the_model_itself(model):
    with moved(opened(model), 1.0):
        pass
    with pytest.raises(ValueError, match="interpolation needs the base model"):
        moved(opened(model), 0.5)
    lacking = pytest.raises(ValueError, match="lacks .* parameters of this one")
    with lacking, interpolated(model, {}, 0.5):
        pass
