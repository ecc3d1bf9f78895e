"""Options of the methods from Hugging Face PEFT: what is refused, and where they find no place."""

import pytest

import espnet_blora
from espnet_blora.adapters import parse_config


@pytest.mark.parametrize(
    ("method", "conf", "words"),
    [
        ("dora", {"rank": 0}, ["rank is 0", ">= 1"]),
        ("pissa", {"niter": 0}, ["niter is 0", ">= 1"]),
        ("lora_fa", {"seed": -1}, ["seed is -1", ">= 0"]),
        ("mica", {"alpha": "2"}, ["alpha is '2'"]),
        ("vera", {"alpha": 8}, ["unknown key 'alpha'", "d_initial"]),
        ("vera", {"rank": None}, ["rank is None", ">= 1"]),
        ("vera", {"d_initial": float("nan")}, ["d_initial is nan"]),
        ("vera", {"shared": 1}, ["unknown key 'shared'"]),
        ("vblora", {"topk": 3, "num_vectors": 2}, ["topk is 3", "num_vectors 2"]),
        ("vblora", {"vector_length": 0}, ["vector_length is 0"]),
        ("vblora", {"init_bank_bound": 0}, ["init_bank_bound is 0", "> 0"]),
        ("osf", {"rank": 1.5}, ["rank is 1.5", "whole number"]),
        ("osf", {"dropout_rate": 1}, ["dropout_rate is 1", "< 1"]),
        ("adalora", {}, ["total_steps is missing", "batches per epoch"]),
        ("adalora", {"total_steps": "9"}, ["total_steps is '9'", "whole number"]),
        ("adalora", {"total_steps": 9, "rank": 4}, ["target_rank is 32 and rank 4", "below rank"]),
        (
            "adalora",
            {"total_steps": 9, "warmup_steps": 5, "final_steps": 4},
            ["warmup_steps 5 + final_steps 4", "total_steps 9"],
        ),
        ("adalora", {"total_steps": 9, "beta1": 1}, ["beta1 is 1", "< 1"]),
        ("adalora", {"total_steps": 9, "orth_weight": -1}, ["orth_weight is -1", ">= 0"]),
    ],
)
def test_each_bad_option_is_named_with_what_is_allowed(method, conf, words):
    with pytest.raises(ValueError, match=f"adapter_conf of {method}") as caught:
        parse_config(method, conf)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("method", "conf", "words"),
    [
        ("pissa", {"rank": 13}, ["13 singular vectors of blocks.0.attn.query", "1 to 12"]),
        ("mica", {"rank": 13}, ["blocks.0.attn.query", "12 x 12"]),
        ("osf", {"rank": 12}, ["rank 12 of blocks.0.attn.query", "1 to 11"]),
        (
            "vblora",
            {"vector_length": 8},
            ["vector_length is 8", "blocks.0.attn.query maps 12 to 12", "divisors of 12"],
        ),
    ],
)
def test_what_finds_no_place_in_a_model_is_refused_before_it_is_touched(build, method, conf, words):
    model = build()
    with pytest.raises(ValueError, match=f"adapter_conf of {method}") as caught:
        espnet_blora.add_adapter(model, method, target_modules=["query", "mlp.0"], **conf)
    for word in words:
        assert word in str(caught.value)
    assert all(p.requires_grad for p in model.parameters())
    assert model.state_dict().keys() == build().state_dict().keys()


def test_defaults_depend_on_what_they_must():
    config = parse_config("adalora", {"total_steps": 1000})
    assert (config.warmup_steps, config.final_steps) == (100, 300)
    assert parse_config("adalora", config.as_dict()) == config
    assert parse_config("osf", {}).rank is None


def test_sizes_of_layers_follow_the_model(build):
    osf = espnet_blora.add_adapter(build(), "osf", target_modules=["query", "head"])
    assert {name: layer.rank for name, layer in osf.layers.items()} == {
        "blocks.0.attn.query": 6,
        "blocks.1.attn.query": 6,
        "head": 2,
    }
    bank = espnet_blora.add_adapter(build(), "vblora", target_modules=["query", "mlp.0"])
    assert bank.layers["blocks.0.mlp.0"].tensor("vblora_vector_bank").shape == (256, 12)
    assert bank.layers["blocks.0.mlp.0"].vblora_logits_B.shape == (2, 4, 256)
    vera = espnet_blora.add_adapter(build(), "vera", rank=3, target_modules=["mlp.0", "mlp.2"])
    first = vera.layers["blocks.0.mlp.0"]
    assert (first.vera_A.shape, first.vera_B.shape) == ((3, 24), (24, 3))
