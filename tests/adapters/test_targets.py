from collections import OrderedDict

import pytest
import torch
from torch import nn

import espnet_blora
from espnet_blora.adapters.targets import find_targets, name_matches


@pytest.mark.parametrize(
    ("name", "target", "expected"),
    [
        ("blocks.0.attn.query", "query", True),
        ("query", "query", True),
        ("blocks.0.attn.my_query", "query", False),
        ("blocks.0.attn.my_query2", "query", False),
        ("blocks.0.query.0", "query", False),
        ("blocks.0.attn.out", "attn.out", True),
        ("blocks.0.cross_attn.out", "attn.out", False),
        ("blocks.0.attn.query", "blocks.0.attn.query", True),
        ("blocks.10.attn.query", "0.attn.query", False),
        ("query", "attn.query", False),
    ],
)
def test_whole_components_at_the_end(name, target, expected):
    assert name_matches(name, target) is expected


def test_finds_in_model_order_whatever_the_order_of_targets(build):
    named = find_targets(build(), ["mlp.2", "query"])
    assert list(named) == [
        "blocks.0.attn.query",
        "blocks.0.mlp.2",
        "blocks.1.attn.query",
        "blocks.1.mlp.2",
    ]


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (["qeury"], ["'qeury' names no module", "did you mean 'query'", "key, value, out"]),
        (["query", "attn.ouut"], ["'attn.ouut'", "did you mean 'attn.out'"]),
        (["uery"], ["'uery' names no module"]),
        (["q"], ["'q' names no module. A target is"]),
        (["zzz"], ["'zzz' names no module", "mlp.0"]),
        (["attn"], ["names blocks.0.attn, a Sequential", "blocks.0.attn.query"]),
        (["mlp.1"], ["a GELU", "Linear modules only"]),
    ],
)
def test_errors_name_the_target_and_what_there_is(build, targets, words):
    model = build()
    with pytest.raises(ValueError, match="target_modules: ") as caught:
        espnet_blora.add_adapter(model, "lora", target_modules=targets)
    for word in words:
        assert word in str(caught.value)
    assert all(p.requires_grad for p in model.parameters())  # nothing was done
    assert not hasattr(model, "adapter_state")


def test_a_model_without_linears():
    with pytest.raises(ValueError, match="no Linear at all"):
        find_targets(nn.Sequential(nn.Tanh()), ["query"])


@pytest.mark.parametrize("target", ["out_proj", "linear1", "linear2"])
def test_a_linear_that_is_never_called_is_refused(target):
    """In eval(), torch's fast path of an encoder layer reads the weights of its Linears."""
    with pytest.raises(ValueError, match="would do nothing"):
        find_targets(nn.TransformerEncoderLayer(8, 2, 16), [target])


def test_the_linears_of_a_decoder_layer_are_called(method):
    model = nn.TransformerDecoderLayer(8, 2, 16)
    adapter = espnet_blora.add_adapter(model, method, rank=2, target_modules=["linear1"])
    x = torch.randn(3, 1, 8)
    with torch.no_grad():
        before = model.eval()(x, x)
        adapter.layers["linear1"].lora_B.fill_(1.0)
        assert not torch.allclose(model(x, x), before)


def test_parametrised_and_lazy_weights_are_refused():
    model = nn.Sequential(OrderedDict(query=nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))))
    with pytest.raises(ValueError, match="not an ordinary parameter"):
        find_targets(model, ["query"])
    with pytest.raises(ValueError, match="not yet materialised"):
        find_targets(nn.Sequential(OrderedDict(query=nn.LazyLinear(3))), ["query"])


def test_a_shared_linear_is_adapted_once(method):
    shared = nn.Linear(4, 4)
    model = nn.Sequential(OrderedDict(query=shared, tanh=nn.Tanh(), value=shared))
    adapter = espnet_blora.add_adapter(model, method, rank=2, target_modules=["query", "value"])
    assert list(adapter.layers) == ["query"]
    assert model.load_state_dict(model.state_dict()).missing_keys == []
    assert model(torch.randn(2, 4)).shape == (2, 4)
