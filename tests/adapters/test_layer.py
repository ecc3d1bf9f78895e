import copy
import pickle
import threading

import pytest
import torch
from torch import nn
from whisper.model import Linear as WhisperLinear

import espnet_blora
from espnet_blora.adapters import get_adapter
from espnet_blora.adapters.layer import AdapterLayer


@pytest.mark.parametrize("kind", ["plain", "casting", "doubling"])
def test_a_fresh_adapter_in_eval_is_its_base_bit_for_bit(build, linears, method, kind, x):
    model = build(linear=linears[kind])
    expected = model(x)
    espnet_blora.add_adapter(model, method, rank=4, target_modules=["query", "out", "mlp.0"])
    model.eval()
    assert torch.equal(model(x), expected)


def test_names_identity_and_class_of_the_base_are_kept(build, linears, method):
    model = build(linear=linears["casting"])
    query, weight = model.blocks[0].attn.query, model.blocks[0].attn.query.weight
    keys = set(model.state_dict())
    espnet_blora.add_adapter(model, method, rank=4)
    assert model.blocks[0].attn.query is query and query.weight is weight
    assert isinstance(query, linears["casting"]) and isinstance(query, AdapterLayer)
    assert keys < set(model.state_dict())
    assert query.lora_A.shape == (4, 12) and query.lora_B.shape == (12, 4)
    assert "rank=4" in repr(query)


def test_forward_is_base_plus_scaled_delta(adapted, x):
    _model, adapter = adapted
    layer = adapter.layers["blocks.0.attn.query"].eval()
    expected = nn.functional.linear(x, layer.weight + layer.delta_weight(), layer.bias)
    assert torch.allclose(layer(x), expected, atol=1e-6)
    assert torch.allclose(layer.delta_weight(), 2.0 * layer.lora_B @ layer.lora_A)
    assert layer.delta_weight().abs().max() > 1e-2


def test_toggling_train_and_eval_never_touches_the_base(adapted, x):
    model, adapter = adapted
    frozen = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    optimiser = torch.optim.AdamW(adapter.trainable_parameters(), lr=0.1, weight_decay=0.1)
    means = adapter.layers["blocks.1.attn.value"].lora_B.clone()
    for _ in range(3):
        model.train()
        optimiser.zero_grad()
        model(x).square().sum().backward()
        optimiser.step()
        model.eval()
        model(x)
    assert not torch.equal(adapter.layers["blocks.1.attn.value"].lora_B, means)
    assert frozen and all(torch.equal(model.get_parameter(n), w) for n, w in frozen.items())


def test_the_whisper_linear_goes_on_casting(method):
    model = nn.Sequential(WhisperLinear(6, 4))
    model.query = WhisperLinear(4, 3)
    espnet_blora.add_adapter(model, method, rank=2, target_modules=["query"])
    model.train()
    y = model(torch.randn(2, 6).bfloat16())
    assert y.dtype == torch.bfloat16 and model.query.weight.dtype == torch.float32
    y.sum().backward()
    assert model.query.lora_B.grad.abs().sum() > 0


def test_under_autocast(adapted, x):
    model, _ = adapted
    exact = model.eval()(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(x)
        trained = model.train()(x)
    assert rough.dtype == trained.dtype == torch.bfloat16
    assert torch.allclose(rough.float(), exact, atol=0.05)
    assert torch.isfinite(trained).all()


def test_half_precision_models(build, shake, method, x):
    for dtype in (torch.float16, torch.bfloat16):
        model = build()
        shake(espnet_blora.add_adapter(model, method, rank=4))
        exact = model.eval()(x)
        model.to(dtype)
        assert torch.allclose(model(x.to(dtype)).float(), exact, atol=0.1)
        assert torch.isfinite(model.train()(x.to(dtype))).all()


def test_a_double_model_gets_double_factors(build, method):
    model = build(dtype=torch.float64)
    adapter = espnet_blora.add_adapter(model, method, rank=4)
    assert {p.dtype for p in adapter.trainable_parameters()} == {torch.float64}


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_copies_work_and_stand_on_their_own(adapted, way, x):
    model, adapter = adapted
    model.train()
    model(x)
    copied = copy.deepcopy(model) if way == "deepcopy" else pickle.loads(pickle.dumps(model))
    other = get_adapter(copied)
    assert other.layers.keys() == adapter.layers.keys() and other.step == adapter.step == 1
    assert other.layers["blocks.0.attn.query"] is copied.blocks[0].attn.query
    assert torch.equal(copied(x), model(x))  # noise included: both are at step 2
    assert other.step == adapter.step == 2
    other.set_scale(0.0)
    copied(x)
    assert (adapter.scale, adapter.step, other.step) == (1.0, 2, 3)
    with pytest.raises(ValueError, match="holds none"):
        copied.load_state_dict({}, strict=False)  # the hooks came along; strict would hide that


def test_a_whisper_module_can_be_copied(method):
    model = nn.Sequential()
    model.query = WhisperLinear(4, 3)
    espnet_blora.add_adapter(model, method, rank=2, target_modules=["query"])
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert isinstance(copied.query, WhisperLinear) and isinstance(copied.query, AdapterLayer)


def test_merged_forward_is_safe_in_threads(adapted, x):
    model, adapter = adapted
    model.eval()
    adapter.merge()
    expected, bits = model(x), model.blocks[0].attn.query.weight.clone()
    results = []

    def run():
        results.extend(torch.equal(model(x), expected) for _ in range(20))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 80 and all(results)
    assert torch.equal(model.blocks[0].attn.query.weight, bits)
