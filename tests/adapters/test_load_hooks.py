import json
import logging
import re

import pytest
import torch

import espnet_blora
from espnet_blora.adapters import get_adapter
from espnet_blora.adapters.state import decode_signature


def fresh(build, method, seed=0, **conf):
    model = build(seed=seed)
    return model, espnet_blora.add_adapter(model, method, **{"rank": 4, "alpha": 8, **conf})


def unchanged(model, before):
    return all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("strict", [False, True])
def test_a_full_state_dict_loads(adapted, build, method, x, strict):
    model, _ = adapted
    other, adapter = fresh(build, method, seed=5)
    other.load_state_dict(model.state_dict(), strict=strict)
    assert torch.equal(other.eval()(x), model.eval()(x))
    assert adapter.step == 0


def test_a_trained_state_loads_and_reports(adapted, build, method, x, trained_state, caplog):
    model, _ = adapted
    model.train()(x)
    other, adapter = fresh(build, method)
    with caplog.at_level(logging.INFO):
        result = other.load_state_dict(trained_state(model), strict=False)
    assert result.unexpected_keys == [] and len(result.missing_keys) > 0
    expected = {"lora": 11, "blora": 19}[method]
    assert f"{expected} adapter keys matched, 0 missing, 0 unexpected; 0 of" in caplog.text
    assert adapter.step == 1
    assert torch.equal(other.eval()(x), model.eval()(x))


def test_inside_a_larger_model(adapted, build, method, x, trained_state):
    model, _ = adapted
    other, _adapter = fresh(build, method)
    outer = torch.nn.ModuleDict({"asr": other})
    state = {f"asr.{key}": value for key, value in trained_state(model).items()}
    outer.load_state_dict(state, strict=False)
    assert torch.equal(other.eval()(x), model.eval()(x))
    with pytest.raises(ValueError, match="holds none"):
        outer.load_state_dict(trained_state(model), strict=False)


BREAK = {
    "zero matched": (lambda s, own: {}, ["none of the model's", "before the adapter is added"]),
    "base only": (
        lambda s, own: {k: v for k, v in own.items() if k not in s},
        ["none of the model's", "blocks.0.attn.key.bias"],
    ),
    "missing": (
        lambda s, own: {k: v for k, v in s.items() if k != "blocks.1.attn.value.lora_B"},
        ["1 are missing (blocks.1.attn.value.lora_B)"],
    ),
    "no signature": (
        lambda s, own: {k: v for k, v in s.items() if k != "adapter_state.signature"},
        ["1 are missing (adapter_state.signature)"],
    ),
    "unexpected": (
        lambda s, own: {**s, "blocks.0.attn.out.lora_A": torch.zeros(4, 12)},
        ["1 are unexpected (blocks.0.attn.out.lora_A)"],
    ),
    "shape": (
        lambda s, own: {**s, "blocks.0.attn.query.lora_B": torch.zeros(9, 4)},
        ["blocks.0.attn.query.lora_B has shape (9, 4)", "(12, 4)"],
    ),
    "NaN": (
        lambda s, own: {**s, "blocks.0.attn.query.lora_B": torch.full((12, 4), float("nan"))},
        ["blocks.0.attn.query.lora_B holds NaN"],
    ),
    "damaged signature": (
        lambda s, own: {**s, "adapter_state.signature": torch.zeros(9, dtype=torch.uint8)},
        ["signature", "damaged"],
    ),
    "damaged fingerprint": (
        lambda s, own: {**s, "adapter_state.fingerprint": s["adapter_state.fingerprint"][1:]},
        ["fingerprint", "damaged"],
    ),
}


@pytest.mark.parametrize("case", BREAK)
@pytest.mark.parametrize("strict", [False, True])
def test_what_does_not_fit_is_refused_and_changes_nothing(
    adapted, build, method, trained_state, case, strict
):
    model, _ = adapted
    change, words = BREAK[case]
    state = change(trained_state(model), model.state_dict())
    other, _ = fresh(build, method)
    before = {key: value.clone() for key, value in other.state_dict().items()}
    with pytest.raises(ValueError, match=re.escape(words[0])) as caught:
        other.load_state_dict(state, strict=strict)
    for word in words:
        assert word in str(caught.value)
    assert unchanged(other, before)


def test_another_rank_names_both(adapted, build, method, trained_state):
    model, _ = adapted
    state = trained_state(model)
    other, _ = fresh(build, method, rank=6, alpha=12)
    with pytest.raises(ValueError, match="rank 4.*rank 6.*set rank: 4"):
        other.load_state_dict(state, strict=False)
    del state["adapter_state.signature"]
    with pytest.raises(ValueError, match="rank 4.*rank 6"):
        other.load_state_dict(state, strict=False)


def test_options_newer_than_the_state_dict_had_their_defaults(build, caplog):
    """What an older release did not know differs only where it is set."""
    caplog.set_level("INFO")
    key = "adapter_state.signature"
    model, _ = fresh(build, "blora")
    state = model.state_dict()
    description = decode_signature(state[key])
    del description["config"]["prior"], description["config"]["prior_tau"]
    state[key] = torch.frombuffer(bytearray(json.dumps(description).encode()), dtype=torch.uint8)
    fresh(build, "blora")[0].load_state_dict(state)
    assert "options differ" not in caplog.text
    fresh(build, "blora", prior_tau=2.0)[0].load_state_dict(state)
    assert "options differ from those of the state dict: prior_tau 2.0 (there 3.0)" in caplog.text


def test_another_alpha_is_another_function(adapted, build, method, trained_state):
    model, _ = adapted
    other, _ = fresh(build, method, alpha=16)
    with pytest.raises(ValueError, match="alpha 8.*alpha 16"):
        other.load_state_dict(trained_state(model), strict=False)


def test_other_targets(adapted, build, method, trained_state):
    model, _ = adapted
    other, _ = fresh(build, method, target_modules=["query", "out"])
    with pytest.raises(ValueError, match="missing.*attn.out.*unexpected.*attn.value"):
        other.load_state_dict(trained_state(model), strict=False)


def test_other_training_options_are_told_not_refused(build, shake, trained_state, caplog):
    model, adapter = fresh(build, "blora")
    shake(adapter)
    other, _ = fresh(build, "blora", beta=0.25, log_every=7)
    with caplog.at_level(logging.INFO):
        other.load_state_dict(trained_state(model), strict=False)
    assert "beta 0.25 (there 0.5)" in caplog.text and "log_every 7" in caplog.text


def test_a_base_that_differs_outside_the_targets_only(adapted, build, method, trained_state):
    model, _ = adapted
    other, _ = fresh(build, method)
    with torch.no_grad():
        for block in other.blocks:
            for linear in (block.attn.key, block.attn.out, block.mlp[0], block.mlp[2]):
                linear.weight.mul_(1.1)
    with pytest.raises(ValueError, match="wrong base"):
        other.load_state_dict(trained_state(model), strict=False)


def test_a_base_that_differs_in_one_bias(adapted, build, method, trained_state, tmp_path):
    model, adapter = adapted
    state, path = trained_state(model), tmp_path / "adapter"
    adapter.save(path)
    other, _ = fresh(build, method)
    plain = build()
    with torch.no_grad():
        for changed in (other, plain):
            changed.blocks[1].mlp[0].bias.mul_(1.5)
    with pytest.raises(ValueError, match=r"wrong base: blocks\.1\.mlp\.0\.bias differs by 0\.3"):
        other.load_state_dict(state, strict=False)
    with pytest.raises(ValueError, match=r"wrong base: blocks\.1\.mlp\.0\.bias"):
        espnet_blora.load_adapter(plain, path)


def test_a_state_from_before_biases_were_looked_at(adapted, build, method, trained_state):
    model, adapter = adapted
    whole = adapter.state.base_names
    adapter.state.base_names = [name for name in whole if not name.endswith("bias")]
    assert len(adapter.state.base_names) < len(whole)
    state = trained_state(model)
    other, _ = fresh(build, method)
    with torch.no_grad():
        other.blocks[1].mlp[0].bias.mul_(1.5)
    other.load_state_dict(state, strict=False)  # what it names is compared


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_cast_of_the_base_is_the_same_base(adapted, build, method, trained_state, dtype):
    model, _ = adapted
    other, _ = fresh(build, method)
    other.to(dtype)
    other.load_state_dict(trained_state(model), strict=False)
    other.float()
    other.load_state_dict(trained_state(model), strict=False)
    third, _ = fresh(build, method)
    third.load_state_dict(trained_state(other), strict=False)  # saved from the rounded base


def test_the_fingerprint_is_of_the_base_at_saving_time(build, shake, method, trained_state):
    """ESPnet puts the base in (init_param) after the adapter is on the model."""
    model, adapter = fresh(build, method, seed=1)
    state = model.state_dict()
    state.update(build(seed=0).state_dict())  # what load_pretrained_model does
    model.load_state_dict(state)
    assert torch.equal(model.head.weight, build(seed=0).head.weight)
    shake(adapter)
    right, _ = fresh(build, method, seed=0)
    right.load_state_dict(trained_state(model), strict=False)
    wrong, _ = fresh(build, method, seed=1)
    with pytest.raises(ValueError, match="wrong base"):
        wrong.load_state_dict(trained_state(model), strict=False)


def test_factors_of_one_base_beside_another_base_in_one_state_dict(adapted, build, method):
    model, _ = adapted
    other, _ = fresh(build, method, seed=1)
    state = other.state_dict()
    mixed = {**state, **{k: v for k, v in model.state_dict().items() if "lora" in k or "rho" in k}}
    mixed["adapter_state.fingerprint"] = model.state_dict()["adapter_state.fingerprint"]
    with pytest.raises(ValueError, match="wrong base"):
        other.load_state_dict(mixed)


def test_a_state_saved_on_meta_has_no_base_to_compare(build, method):
    meta = build(device="meta")
    espnet_blora.add_adapter(meta, method, rank=4, alpha=8)
    assert (meta.state_dict()["adapter_state.fingerprint"] == 0).all()
    assert get_adapter(meta).step == 0


def test_no_load_into_a_merged_model(adapted, trained_state):
    model, adapter = adapted
    state = trained_state(model)
    adapter.merge()
    with pytest.raises(ValueError, match="unmerge"):
        model.load_state_dict(state, strict=False)


def test_the_step_counts_training_forwards_and_is_saved(adapted, build, method, x, trained_state):
    model, adapter = adapted
    for _ in range(3):
        model.train()(x)
        model.eval()(x)
    assert adapter.step == 3 and int(model.state_dict()["adapter_state.step"]) == 3
    other, loaded = fresh(build, method)
    other.load_state_dict(trained_state(model), strict=False)
    assert loaded.step == 3
