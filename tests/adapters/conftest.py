"""A small model with Whisper's names, from torch's own classes only (so that it can be pickled)."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

import espnet_blora

WIDTH = 12


class CastingLinear(nn.Linear):
    """Computes in the dtype of its input, as the Linear of openai-whisper does."""

    def forward(self, x):
        return nn.functional.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


class DoublingLinear(nn.Linear):
    """Calls super(), which fails unless self really is one of these."""

    def forward(self, x):
        return 2.0 * super().forward(x)


def _block(linear, width):
    attn = OrderedDict(query=linear(width, width), tanh=nn.Tanh())
    attn.update((name, linear(width, width)) for name in ("key", "value", "out"))
    mlp = nn.Sequential(linear(width, 2 * width), nn.GELU(), linear(2 * width, width))
    return nn.Sequential(OrderedDict(attn=nn.Sequential(attn), mlp=mlp))


def build(seed=0, linear=nn.Linear, blocks=2, width=WIDTH, dtype=torch.float32, device="cpu"):
    torch.default_generator.manual_seed(seed)
    with torch.device(device):
        layers = nn.Sequential(*(_block(linear, width) for _ in range(blocks)))
        model = nn.Sequential(OrderedDict(blocks=layers, head=nn.Linear(width, 5)))
    return model.to(dtype)


def build_stack(seed=0, linear=nn.Linear, dtype=torch.float32, device="cpu", depth=3):
    """A model with an encoder of one layer and a decoder of `depth`, named as in openai-whisper."""
    torch.default_generator.manual_seed(seed)
    with torch.device(device):
        sides = OrderedDict(
            (side, nn.Sequential(OrderedDict(blocks=nn.Sequential(*blocks))))
            for side, blocks in (
                ("encoder", [_block(linear, WIDTH)]),
                ("decoder", [_block(linear, WIDTH) for _ in range(depth)]),
            )
        )
        model = nn.Sequential(OrderedDict(**sides, head=nn.Linear(WIDTH, 5)))
    return model.to(dtype)


def trained_state(model):
    """What a checkpoint of ESPnet's `required_grad_only` holds."""
    state = model.state_dict()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            state.pop(name)
    return {key: value.clone() for key, value in state.items()}


def shake(adapter, scale=0.1, seed=7):
    """Move the means away from their start, so that the update is not zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in adapter.layers.values():
            for mean in (layer.lora_A, layer.lora_B):
                noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
                mean.add_(scale * noise.to(mean.device))
    return adapter


@pytest.fixture(name="build")
def build_fixture():
    return build


@pytest.fixture(name="build_stack")
def build_stack_fixture():
    return build_stack


@pytest.fixture(name="shake")
def shake_fixture():
    return shake


@pytest.fixture(name="trained_state")
def trained_state_fixture():
    return trained_state


@pytest.fixture
def linears():
    return {"casting": CastingLinear, "doubling": DoublingLinear, "plain": nn.Linear}


@pytest.fixture
def x():
    return torch.randn(3, 6, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=["lora", "blora"])
def method(request):
    return request.param


@pytest.fixture
def adapted(build, shake, method):
    """A model with a shaken adapter: (model, adapter)."""
    model = build()
    adapter = espnet_blora.add_adapter(model, method, rank=4, alpha=8)
    return model, shake(adapter)
