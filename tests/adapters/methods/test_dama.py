import logging

import pytest
import torch
from torch import nn
from whisper.model import TextDecoder

import espnet_blora
from espnet_blora.adapters import parse_config

MIDDLE = {"theta1": 0.34, "theta2": 1.0}  # of three layers: early, middle, late
ALL = ["query", "key", "value", "out", "mlp.0", "mlp.2"]


@pytest.fixture(scope="module")
def large_v2_decoder():
    def build():
        with torch.device("meta"):
            return nn.ModuleDict({"decoder": TextDecoder(51865, 448, 1280, 20, 32)})

    return build


@pytest.mark.parametrize(
    ("method", "conf", "trained", "stored"),
    [
        ("dama", {}, 14_909_440, 1_597_440),
        ("dama", {"train_mid_A": True}, 16_506_880, 0),
        # the control at the same budget: a LoRA of rank 14 on the decoder, written in two ways
        ("lora", {"rank": 14, "target_modules": ALL}, 14_909_440, 0),
        ("dama", {"r_high": 14, "r_low": 14, "init": "random", "train_mid_A": True}, 14_909_440, 0),
    ],
)
def test_the_published_counts_on_the_decoder_of_large_v2(
    large_v2_decoder, method, conf, trained, stored
):
    report = espnet_blora.add_adapter(large_v2_decoder(), method, **conf).report()
    assert report["layers"] == 320  # 10 matrices in each of 32 layers
    assert (report["trainable"], report["stored"]) == (trained, stored)
    assert report["total"] - trained == 906_520_320


def make(build_stack, dtype=torch.float64, **conf):
    model = build_stack(dtype=dtype)
    options = {"r_high": 6, "r_low": 3, **MIDDLE, **conf}
    return model, espnet_blora.add_adapter(model, "dama", **options)


def test_ranks_scales_and_scope(build_stack, caplog):
    with caplog.at_level(logging.INFO):
        _, adapter = make(build_stack)
    ranks = {name: layer.rank for name, layer in adapter.layers.items()}
    assert set(ranks.values()) == {6, 3} and not any("encoder" in name for name in ranks)
    for name, layer in adapter.layers.items():
        middle = ".1." in name.replace("mlp.", "")
        assert layer.rank == (3 if middle else 6) and layer.scaling == 32.0 / layer.rank
        assert ("lora_A" in dict(layer.named_buffers())) == middle
        assert isinstance(layer.lora_B, nn.Parameter)
    assert "ranks of the 3 layers of decoder.blocks: 6 3 6; middle layers: 2 to 2" in caplog.text
    assert "scope: decoder leaves out 6 of 24 targets" in caplog.text
    _, both = make(build_stack, scope="both")
    assert len(both.layers) == 24 and "no protected" not in caplog.text
    assert "encoder.blocks has 1 layers" in caplog.text


@pytest.mark.parametrize(
    ("rule", "high", "low"),
    [
        ("alpha_over_r", 2.0, 4.0),
        ("alpha_over_rhigh", 2.0, 2.0),
        ("rslora", 12 / 6**0.5, 12 / 3**0.5),
        ("none", 1.0, 1.0),
    ],
)
def test_scaling_rules(build_stack, rule, high, low):
    _, adapter = make(build_stack, alpha=12, scaling_rule=rule)
    assert adapter.layers["decoder.blocks.0.attn.query"].scaling == pytest.approx(high)
    assert adapter.layers["decoder.blocks.1.attn.query"].scaling == pytest.approx(low)


def test_a_rank_is_never_above_the_sizes_of_its_weight(build_stack):
    _, adapter = make(build_stack, r_high=40, r_low=20)
    assert {layer.rank for layer in adapter.layers.values()} == {12}  # width 12


@pytest.mark.parametrize(
    ("conf", "first"),
    [({}, -3), ({"tail": "next"}, 3), ({"r_low": 5, "r_high": 5, "tail": "next"}, 5)],
)
@pytest.mark.parametrize("name", ["attn.query", "mlp.0", "mlp.2"])
def test_the_middle_is_frozen_on_right_singular_vectors(build_stack, conf, first, name):
    model, adapter = make(build_stack, **conf)
    layer = adapter.layers[f"decoder.blocks.1.{name}"]
    adapter.prepare()
    vectors = torch.linalg.svd(layer.weight, full_matrices=False)[2]
    first = first % len(vectors)
    expected = vectors[first : first + layer.rank]
    assert torch.allclose((layer.lora_A @ expected.T).abs(), torch.eye(layer.rank).double())
    assert (layer.lora_A.gather(1, layer.lora_A.abs().argmax(1, keepdim=True)) > 0).all()
    kept = layer.lora_A.clone()
    optimiser = torch.optim.AdamW(adapter.trainable_parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        model.train()(torch.ones(2, 3, 12).double()).square().sum().backward()
        optimiser.step()
    assert torch.equal(layer.lora_A, kept) and layer.lora_B.abs().sum() > 0


def test_next_falls_back_to_the_last_where_there_are_no_others(build_stack):
    _, adapter = make(build_stack, r_high=8, r_low=8, tail="next")  # 12 vectors, not 16
    adapter.prepare()
    layer = adapter.layers["decoder.blocks.1.attn.query"]
    vectors = torch.linalg.svd(layer.weight)[2]
    assert torch.allclose(layer.lora_A.abs(), vectors[-8:].abs())


def test_full_takes_the_null_space_of_wide_weights(build_stack):
    _, adapter = make(build_stack, svd="full")
    adapter.prepare()
    wide = adapter.layers["decoder.blocks.1.mlp.2"]
    assert wide.weight.shape == (12, 24)
    assert (wide.lora_A @ wide.weight.T).abs().max() < 1e-12
    _, thin = make(build_stack)
    thin.prepare()
    layer = thin.layers["decoder.blocks.1.mlp.2"]
    assert (layer.lora_A @ layer.weight.T).abs().max() > 1e-3
    for name in ("attn.query", "mlp.0"):  # these have no null space on the input side
        name = f"decoder.blocks.1.{name}"
        assert torch.equal(adapter.layers[name].lora_A, thin.layers[name].lora_A)


def test_a_trained_middle_starts_from_the_same_vectors(build_stack):
    (_, frozen), (model, trained) = make(build_stack), make(build_stack, train_mid_A=True)
    optimiser = torch.optim.SGD(trained.trainable_parameters(), lr=0.1)
    frozen.prepare()
    trained.prepare()
    name = "decoder.blocks.1.attn.query"
    start = trained.layers[name].lora_A
    assert isinstance(start, nn.Parameter) and torch.equal(start, frozen.layers[name].lora_A)
    kept = start.detach().clone()
    for _ in range(2):
        optimiser.zero_grad()
        model.train()(torch.ones(2, 3, 12).double()).square().sum().backward()
        optimiser.step()
    assert not torch.equal(trained.layers[name].lora_A, kept)
    adapted = trained.layers[name].lora_A.detach().clone()
    model.eval()(torch.ones(1, 12).double())
    assert torch.equal(trained.layers[name].lora_A, adapted)  # not computed again


def test_a_random_middle(build_stack):
    (_, one), (_, two) = make(build_stack, init="random"), make(build_stack)
    layer = one.layers["decoder.blocks.1.attn.query"]
    assert not isinstance(layer.lora_A, nn.Parameter)
    before = layer.lora_A.clone()
    one.prepare()
    two.prepare()
    assert torch.equal(layer.lora_A, before) and layer.lora_A.abs().sum() > 0
    assert not torch.equal(layer.lora_A, two.layers["decoder.blocks.1.attn.query"].lora_A)
    _, free = make(build_stack, init="random", train_mid_A=True)
    assert not any(layer.basis_names for layer in free.layers.values())


def test_a_stack_without_a_middle_is_told_of(build_stack, caplog):
    model = build_stack(depth=4)
    adapter = espnet_blora.add_adapter(model, "dama")
    assert "decoder.blocks has 4 layers" in caplog.text and "ordinary LoRA" in caplog.text
    assert not any(layer.basis_names for layer in adapter.layers.values())


def test_where_no_ranks_can_be_given(build_stack, build):
    with pytest.raises(ValueError, match="none of the 4 targets, such as blocks.0.attn.query"):
        espnet_blora.add_adapter(build(), "dama", target_modules=["query", "value"])
    model = build_stack()
    model.decoder.add_module("proj", nn.Linear(12, 12))
    with pytest.raises(ValueError, match="decoder.proj is in no numbered layer of the decoder"):
        espnet_blora.add_adapter(model, "dama", target_modules=["query", "proj"])
    assert all(p.requires_grad for p in model.parameters())
    espnet_blora.add_adapter(model, "dama", target_modules=["query", "proj"], scope="encoder")


@pytest.mark.parametrize(
    ("conf", "words"),
    [
        ({"rank": 8}, ["unknown key 'rank'", "r_high"]),
        ({"r_low": 40}, ["r_low is 40", "1 to r_high 32"]),
        ({"r_low": 0}, ["r_low is 0"]),
        ({"theta1": 0.8}, ["theta2 is 0.7", ">= 0.8"]),
        ({"theta2": 1.1}, ["theta2 is 1.1", "<= 1"]),
        ({"scaling_rule": "alpha/r"}, ["scaling_rule is 'alpha/r'", "alpha_over_r"]),
        ({"scope": "all"}, ["scope is 'all'", "both, decoder, encoder"]),
        ({"tail": "first"}, ["tail is 'first'", "last, next"]),
        ({"svd": True}, ["svd is True", "full, thin"]),
        ({"init": "pissa"}, ["init is 'pissa'", "random, svd"]),
        ({"train_mid_A": "no"}, ["train_mid_A is 'no'", "true or false"]),
        ({"middle": True}, ["unknown key 'middle'"]),
        ({"alpha": 0}, ["alpha is 0"]),
    ],
)
def test_each_bad_option_is_named_with_what_is_allowed(conf, words):
    with pytest.raises(ValueError, match="adapter_conf of dama") as caught:
        parse_config("dama", conf)
    for word in words:
        assert word in str(caught.value)
