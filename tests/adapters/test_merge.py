import pytest
import torch

import espnet_blora
from espnet_blora.adapters import get_adapter
from espnet_blora.adapters.layer import bake_layers


def test_a_merged_forward_reads_the_sum_alone(adapted, x):
    model, adapter = adapted
    model.eval()
    adapter.merge()
    layer = adapter.layers["blocks.0.attn.query"]
    expected = torch.nn.functional.linear(x, layer.weight + layer.delta_weight(), layer.bias)
    assert torch.allclose(layer(x), expected, atol=1e-6)
    with adapter.disabled():
        assert torch.equal(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))


def test_the_state_dict_of_a_merged_model_is_that_of_the_unmerged(adapted):
    model, adapter = adapted
    before = {key: value.clone() for key, value in model.state_dict().items()}
    adapter.merge()
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_inf_are_refused_by_name_with_nothing_merged(adapted, value):
    _model, adapter = adapted
    with torch.no_grad():
        adapter.layers["blocks.1.attn.query"].lora_A[0, 0] = value
    with pytest.raises(ValueError, match="blocks.1.attn.query.*NaN or inf"):
        adapter.merge()
    assert not adapter.merged


def test_neither_training_nor_sampling_runs_merged(adapted, x):
    model, adapter = adapted
    adapter.merge()
    with pytest.raises(ValueError, match="unmerge"):
        model.train()(x)
    if adapter.bayesian:
        model.eval()
        with adapter.sampling(seed=1), pytest.raises(ValueError, match="unmerge"):
            model(x)


def test_set_scale_merges_again(adapted, x):
    model, adapter = adapted
    model.eval()
    with adapter.scaled(0.5):
        expected = model(x)
    adapter.merge()
    adapter.set_scale(0.5)
    assert adapter.merged and torch.allclose(model(x), expected, atol=1e-5)


def test_half_precision_rounds_once(adapted, x):
    model, adapter = adapted
    model.eval().bfloat16()
    factored = model(x.bfloat16()).float()
    adapter.merge()
    assert adapter.layers["blocks.0.attn.query"].merged_weight.dtype == torch.bfloat16
    error = (model(x.bfloat16()).float() - factored).norm() / factored.norm()
    assert error < 1e-2


def test_a_merged_model_can_be_copied(adapted, x):
    import copy

    model, adapter = adapted
    model.eval()
    adapter.merge()
    copied = copy.deepcopy(model)
    assert get_adapter(copied).merged and torch.equal(copied(x), model(x))


def test_baked_layers_are_the_linears_that_they_were(build, shake, linears, method, x):
    for linear in (linears["casting"], linears["doubling"]):
        model = build(linear=linear)
        adapter = shake(espnet_blora.add_adapter(model, method, rank=4, alpha=8))
        layers, names = adapter.layers, set(build(linear=linear).state_dict())
        model.eval()
        with pytest.raises(ValueError, match=r"blocks\.0\.attn\.query is not merged"):
            bake_layers(layers)
        adapter.merge()
        expected = model(x)
        bake_layers(layers)
        assert {type(layer) for layer in layers.values()} == {linear}
        assert torch.equal(model(x), expected)
        del model.adapter_state
        assert {n for n, _ in model.named_parameters()} == names


def test_merge_and_unload_leaves_a_plain_model(adapted, build, method, x):
    model, adapter = adapted
    mean = adapter.layers["blocks.1.attn.query"].lora_A
    kept = mean.detach().clone()
    mean.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN or inf"):
        adapter.merge_and_unload()
    assert get_adapter(model) is not None and not adapter.merged
    mean.data.copy_(kept)
    expected = model.eval()(x)
    plain = adapter.merge_and_unload()
    assert plain is model and get_adapter(model) is None
    assert type(model.blocks[0].attn.query) is torch.nn.Linear
    fresh = build()
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh.eval()(x), model(x))
    assert torch.allclose(model(x), expected, atol=1e-6)
    model.load_state_dict(build(seed=1).state_dict())  # no check is left
    assert espnet_blora.add_adapter(model.train(), method, rank=2).step == 0
    model(x)
    assert get_adapter(model).step == 1
