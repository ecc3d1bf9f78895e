import pytest
import torch
from torch import nn

import espnet_blora
from espnet_blora.adapters import parse_config
from espnet_blora.whisper.sizes import dims_of, empty_modules

TARGETS = ["query", "key", "value", "out", "mlp.0", "mlp.2"]


def test_it_lies_between_the_leading_singular_vectors():
    torch.manual_seed(0)
    model = nn.ModuleDict({"proj": nn.Linear(9, 6, dtype=torch.float64)})
    adapter = espnet_blora.add_adapter(model, "lora_xs", rank=3, alpha=6, target_modules=["proj"])
    adapter.prepare()
    layer = adapter.layers["proj"].eval()
    with torch.no_grad():
        layer.lora_R.copy_(torch.arange(9.0).view(3, 3))
    u, s, vh = torch.linalg.svd(layer.weight, full_matrices=False)
    sign = (vh[:3] * layer.svd_Vh).sum(1)
    assert torch.allclose(sign.abs(), torch.ones(3, dtype=torch.float64))
    left = u[:, :3] * sign * s[:3]
    assert torch.allclose(layer.delta_weight(), 2.0 * left @ layer.lora_R @ layer.svd_Vh)
    x = torch.randn(4, 9, dtype=torch.float64)
    whole = nn.functional.linear(x, layer.weight + layer.delta_weight(), layer.bias)
    assert torch.allclose(layer(x), whole)


def test_the_published_count_on_the_decoder_of_large_v2():
    """DAMA's table (ACL Findings 2026): r = 64 on ten matrices of each of 32 layers."""
    _, decoder = empty_modules(dims_of("large-v2"))
    report = espnet_blora.add_adapter(decoder, "lora_xs", rank=64, target_modules=TARGETS).report()
    assert (report["layers"], report["trainable"]) == (320, 1_310_720)


def test_it_learns_from_zero(build, x):
    model = build()
    adapter = espnet_blora.add_adapter(model, "lora_xs", rank=4)
    model.train()(x).square().sum().backward()
    assert len(adapter.trainable_parameters()) == 4
    assert all(p.grad.abs().max() > 1e-4 for p in adapter.trainable_parameters())


def test_options():
    assert parse_config("lora_xs", {}).options() == parse_config("lora", {}).options()
    with pytest.raises(ValueError, match=r"adapter_conf of lora_xs: rank is 0"):
        parse_config("lora_xs", {"rank": 0})


def test_a_rank_that_does_not_fit_names_the_linear(build):
    with pytest.raises(ValueError, match=r"of lora_xs: rank.*mlp\.0.*24 x 12.*1 to 12"):
        espnet_blora.add_adapter(build(), "lora_xs", rank=13, target_modules=["mlp.0"])
