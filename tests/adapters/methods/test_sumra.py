import pytest
import torch
from torch import nn

import espnet_blora
from espnet_blora.adapters import parse_config
from espnet_blora.adapters.methods.sumra import summed_rows
from espnet_blora.whisper.sizes import dims_of, empty_modules


def test_rows_are_sums_of_different_vectors_strong_with_weak():
    """With one-hot vectors the sums show what went where."""
    rows = summed_rows(torch.eye(12), rank=3, vectors=3, skip=2)
    members = [row.nonzero().flatten().tolist() for row in rows]
    assert members == [[2, 7, 8], [3, 6, 9], [4, 5, 10]]
    assert torch.allclose(rows @ rows.T, torch.eye(3))


def test_lora_a_is_frozen_and_made_of_the_bases_vectors(build, x):
    model = build(dtype=torch.float64)
    adapter = espnet_blora.add_adapter(model, "sumra", rank=4, skip=1, vectors=2)
    assert [n.rpartition(".")[2] for n, p in model.named_parameters() if p.requires_grad] == [
        "lora_B"
    ] * 4
    model.train()(x.double()).square().sum().backward()
    layer = adapter.layers["blocks.0.attn.query"]
    _, _, vh = torch.linalg.svd(layer.weight)
    shares = (layer.lora_A @ vh.T).square()
    expected = torch.zeros(12, dtype=torch.float64)
    expected[1:9] = 0.5
    assert torch.allclose(shares.sum(0), expected)
    assert layer.lora_A.grad is None and layer.lora_B.grad.abs().max() > 1e-4


def test_half_the_parameters_of_lora_on_the_decoder_of_large_v2():
    """DAMA's table (ACL Findings 2026) has the count of a frozen A at r = 64: 34,078,720."""
    targets = ["query", "key", "value", "out", "mlp.0", "mlp.2"]
    counts = {}
    for method in ("lora", "sumra"):
        _, decoder = empty_modules(dims_of("large-v2"))
        adapter = espnet_blora.add_adapter(decoder, method, rank=64, target_modules=targets)
        counts[method] = adapter.report()["trainable"]
    assert counts == {"lora": 68_157_440, "sumra": 34_078_720}


def test_by_default_all_vectors_are_used():
    model = nn.ModuleDict({"proj": nn.Linear(11, 30)})
    adapter = espnet_blora.add_adapter(model, "sumra", rank=2, skip=2, target_modules=["proj"])
    assert adapter.layers["proj"].vectors == 4


@pytest.mark.parametrize(
    ("conf", "words"),
    [
        ({"skip": -1}, ["skip is -1", ">= 0"]),
        ({"vectors": 0}, ["vectors is 0", ">= 1"]),
        ({"vector": 2}, ["did you mean 'vectors'"]),
    ],
)
def test_each_bad_option_is_named_with_what_is_allowed(conf, words):
    with pytest.raises(ValueError, match="adapter_conf of sumra") as caught:
        parse_config("sumra", conf)
    for word in words:
        assert word in str(caught.value)


def test_too_many_vectors_name_the_linear(build):
    with pytest.raises(ValueError, match=r"rank 4 rows of 4 .* 12 of .*query.*vectors <= 12"):
        espnet_blora.add_adapter(build(), "sumra", rank=4, vectors=4)
    with pytest.raises(ValueError, match=r"skip 10 and rank 4 rows of 1 "):
        espnet_blora.add_adapter(build(), "sumra", rank=4, skip=10)
