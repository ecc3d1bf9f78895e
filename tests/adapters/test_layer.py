import copy
import pickle
import threading

import pytest
import torch
from torch import nn
from whisper.model import Linear as WhisperLinear

import espnet_blora
from espnet_blora.adapters.layer import AdapterLayer


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


def test_the_whisper_linear_goes_on_casting(method):
    model = nn.Sequential(WhisperLinear(6, 4))
    model.query = WhisperLinear(4, 3)
    espnet_blora.add_adapter(model, method, rank=2, target_modules=["query"])
    model.train()
    y = model(torch.randn(2, 6).bfloat16())
    assert y.dtype == torch.bfloat16 and model.query.weight.dtype == torch.float32
    y.sum().backward()
    assert model.query.lora_B.grad.abs().sum() > 0


def test_a_double_model_gets_double_factors(build, method):
    model = build(dtype=torch.float64)
    adapter = espnet_blora.add_adapter(model, method, rank=4)
    assert {p.dtype for p in adapter.trainable_parameters()} == {torch.float64}


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


def test_nan_is_refused_with_the_name_of_the_layer(build_stack):
    model = build_stack()
    adapter = espnet_blora.add_adapter(model, "dama", theta1=0.34, theta2=1.0)
    with torch.no_grad():
        model.decoder.blocks[1].mlp[0].weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="decoder.blocks.1.mlp.0: the base weight holds NaN"):
        adapter.prepare()


def test_a_forward_of_a_part_computes_the_bases_it_needs(build_stack, x):
    """Decoding never calls the model itself."""
    model = build_stack()
    adapter = espnet_blora.add_adapter(model, "dama", theta1=0.34, theta2=1.0)
    layer = adapter.layers["decoder.blocks.1.attn.query"]
    assert not layer.ready and not layer.basis_ready
    model.eval().decoder(x)
    assert layer.ready and layer.basis_ready
    kept = layer.lora_A.clone()
    with torch.no_grad():
        layer.weight.mul_(-1.0).add_(0.1)
    model.train()(x)
    assert torch.equal(layer.lora_A, kept)  # once is enough


def test_a_state_without_bases_makes_them_due_again(build_stack, x):
    model = build_stack()
    adapter = espnet_blora.add_adapter(model, "dama", theta1=0.34, theta2=1.0)
    early = {key: value.clone() for key, value in model.state_dict().items()}
    adapter.prepare()
    layer = adapter.layers["decoder.blocks.1.attn.query"]
    basis = layer.lora_A.clone()
    model.load_state_dict(early)
    assert not layer.ready and not torch.equal(layer.lora_A, basis)
    assert not model.adapter_state.bases_agreed  # with the other ranks
    model.train()(x)
    assert layer.ready and torch.equal(layer.lora_A, basis)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_narrow_model_trains_wide_factors(build, method, x, dtype):
    """In bf16, no step of 1e-3 would move a rho of -5."""
    model = build()
    adapter = espnet_blora.add_adapter(model, method, rank=4)
    model(x).sum().backward()
    model.to(dtype)
    trained = adapter.trainable_parameters()
    assert {p.dtype for p in trained} == {torch.float32}
    assert {p.grad.dtype for p in trained if p.grad is not None} == {torch.float32}
    assert model.blocks[0].attn.query.weight.dtype == dtype
    before = [p.detach().clone() for p in trained]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    model.train()
    for _ in range(3):
        loss = model(x.to(dtype)).float().square().mean()
        (loss + (adapter.loss_terms()[0] if adapter.bayesian else 0)).backward()
        optimizer.step()
    for old, new in zip(before, trained, strict=True):
        assert (old != new).float().mean() > 0.99
    assert {p.dtype for p in model.double().parameters()} == {torch.float64}
    assert {p.dtype for p in trained} == {torch.float64}


def test_an_assigned_state_dict_keeps_the_marks(build):
    model = build()
    espnet_blora.add_adapter(model, "blora", rank=4)
    model.load_state_dict(model.state_dict(), assign=True)
    marked = [n for n, p in model.named_parameters() if getattr(p, "_no_weight_decay", False)]
    assert len(marked) == 4 and all(name.endswith("rho_A") for name in marked)
