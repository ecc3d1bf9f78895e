"""Two adapters on one model, by name: what the battery asks of one, asked of both."""

import copy

import pytest
import torch
from torch import nn

import espnet_blora
from espnet_blora.adapters import METHODS, get_adapter
from tests.adapters.test_battery import (
    old_data,  # noqa: F401  (a fixture: files that single methods read)
    optimiser_of,
    options,
    same,
    tensors,
    train,
)

every_method = pytest.mark.parametrize("method", METHODS)


@pytest.fixture
def batches():
    return list(torch.randn(6, 2, 3, 12, generator=torch.Generator().manual_seed(2)))


@pytest.fixture
def make(build_stack):
    def adapted(method):
        model = build_stack()
        torch.default_generator.manual_seed(3)
        return model, espnet_blora.add_adapter(model, method, **options(method))

    return adapted


@pytest.fixture
def trained(make, method, batches):
    """A model whose adapter has been trained for a few steps, in eval()."""
    model, adapter = make(method)
    train(model, adapter, optimiser_of(adapter), batches[:3])
    return model.eval(), adapter


def put_beside(model):
    """One more adapter: a LoRA of other Linears and another rank, trained for two steps."""
    torch.default_generator.manual_seed(4)
    return espnet_blora.add_adapter(
        model, "lora", name="second", rank=3, target_modules=["value", "mlp.0"]
    )


@every_method
def test_one_stands_by_while_the_other_trains(
    trained, make, build_stack, batches, method, trained_state, tmp_path, x
):
    model, first = trained
    outputs = {"default": model(x)}
    state, kept = trained_state(model), {n: t.clone() for n, t in tensors(first).items()}
    base = build_stack().state_dict()

    # The second one alone computes, trains and is stored, as on a fresh base.
    second = put_beside(model)
    assert torch.equal(model(x), build_stack()(x))
    alone = build_stack()
    expected = put_beside(alone)
    for one, adapter in ((model, second), (alone, expected)):
        train(one, adapter, optimiser_of(adapter), batches[:2])
        one.eval()
    assert same(model.state_dict(), alone.state_dict())
    assert set(model._ddp_params_and_buffers_to_ignore) == set(
        alone._ddp_params_and_buffers_to_ignore
    )
    outputs["second"] = model(x)
    assert torch.equal(outputs["second"], alone(x))
    with pytest.raises(ValueError, match="adapter 'default' is not on the model now"):
        first.trainable_parameters()
    with pytest.raises(ValueError, match="adapter 'default' is not on the model now"):
        first.save(tmp_path / "first")

    # Both are what they were, each time, and the base has its bits.
    for name in ("default", "second", "second", "default"):
        handle = espnet_blora.set_adapter(model, name)
        assert handle.state.name == name and torch.equal(model(x), outputs[name])
        named = dict(model.named_parameters())
        assert all(torch.equal(named[key], value) for key, value in base.items() if key in named)
    assert same(model.state_dict(), {**state, **base})
    assert same(tensors(first), kept)
    model.load_state_dict(state, strict=False)
    first.save(tmp_path / "first")
    espnet_blora.load_adapter(make(method)[0], tmp_path / "first")


@every_method
def test_training_goes_on_after_the_other_one(make, method, batches):
    runs = []
    for interrupted in (False, True):
        model, adapter = make(method)
        optimiser = optimiser_of(adapter)
        train(model, adapter, optimiser, batches[:2])
        if interrupted:
            second = put_beside(model)
            train(model, second, optimiser_of(second), batches[:2])
            model = copy.deepcopy(model)  # all of them come along
            adapter = espnet_blora.set_adapter(model, "default")
            optimiser_state, optimiser = optimiser.state_dict(), optimiser_of(adapter)
            optimiser.load_state_dict(optimiser_state)
        runs.append((train(model, adapter, optimiser, batches[2:]), tensors(adapter)))
    assert runs[0][0] == runs[1][0]
    assert same(runs[0][1], runs[1][1])


PRODUCTS = {"lora", "blora", "dama", "blora_dama", "lora_l2sp", "lora_ewc", "lora_keep"}
PRODUCTS |= {"sumra"}


@every_method
def test_a_mix_is_the_weighted_sum_of_updates(trained, method, tmp_path, build_stack, x):
    model, _ = trained
    second = put_beside(model)
    with torch.no_grad():
        for tensor in second.factors().values():
            tensor.add_(0.1)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    weights = {"default": 0.7, "second": -0.4}
    if method not in PRODUCTS:
        with pytest.raises(ValueError, match="'default' cannot be mixed: its update of"):
            espnet_blora.mix_adapters(model, weights, name="both")
        assert same(model.state_dict(), state)
        return
    updates = {}
    for name, weight in weights.items():
        for linear, layer in espnet_blora.set_adapter(model, name).layers.items():
            part = weight * layer.delta_weight()
            updates[linear] = updates.get(linear, 0) + part
    both = espnet_blora.mix_adapters(model, weights, name="both")
    assert both.layers.keys() == updates.keys()
    for linear, update in updates.items():
        torch.testing.assert_close(both.layers[linear].delta_weight(), update, atol=1e-6, rtol=1e-4)
    both.save(tmp_path / "both")
    other = build_stack()
    espnet_blora.load_adapter(other, tmp_path / "both")
    assert torch.equal(other.eval()(x), model(x))


# ---- what is refused, and what is left as it was ----


@pytest.fixture
def pair(build_stack):
    model = build_stack().eval()
    espnet_blora.add_adapter(model, "blora", name="one", rank=2)
    return model, put_beside(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: espnet_blora.set_adapter(m, "tow"), "called 'tow'.* there are: one, second"),
        (lambda m: espnet_blora.add_adapter(m, "lora", name="one"), "'one' already"),
        (lambda m: espnet_blora.add_adapter(m, "lora"), "or give it a name"),
        (lambda m: espnet_blora.add_adapter(m, "lora", name="x", rank=0), "rank is 0"),
        (
            lambda m: espnet_blora.add_adapter(m, "lora", name="x", target_modules=["q"]),
            "'q' names",
        ),
        (lambda m: espnet_blora.delete_adapter(m, "second"), "is the one that computes"),
        (lambda m: espnet_blora.mix_adapters(m, {}, name="x"), "name the adapters"),
        (lambda m: espnet_blora.mix_adapters(m, {"one": "a"}, name="x"), "weight of 'one'"),
        (lambda m: espnet_blora.mix_adapters(m, {"one": 1}, name="second"), "'second' already"),
        (lambda m: espnet_blora.set_adapter(nn.Sequential(m), "one"), "carries no adapter"),
    ],
)
def test_what_is_refused_changes_nothing(pair, change, message, x):
    model, second = pair
    before = model(x), list(model.state_dict()), list(second.state.named)
    with pytest.raises(ValueError, match=message):
        change(model)
    assert torch.equal(model(x), before[0]) and list(model.state_dict()) == before[1]
    assert list(get_adapter(model).state.named) == before[2]
    assert get_adapter(model).state is second.state


def test_a_file_of_another_base_puts_the_present_one_back(pair, build_stack, tmp_path, x):
    model, second = pair
    other = build_stack(seed=1)
    espnet_blora.add_adapter(other, "lora", rank=2).save(tmp_path / "other")
    before = model(x)
    with pytest.raises(ValueError, match="wrong base"):
        espnet_blora.load_adapter(model, tmp_path / "other", name="third")
    assert second.state.name == "second" and torch.equal(model(x), before)


def test_the_linears_keep_their_class_mode_and_hooks(pair):
    model, _ = pair
    linear = model.get_submodule("encoder.blocks.0.attn.query")  # of `one`, which stands by
    assert type(linear) is nn.Linear
    assert {name for name, _ in linear.named_parameters()} == {"weight", "bias"}
    assert not list(linear.buffers())
    called = []
    linear.register_forward_hook(lambda *_: called.append(1))
    model.double().train()
    espnet_blora.set_adapter(model, "one")
    assert linear.training and linear.lora_A.dtype == torch.float32
    linear(torch.ones(1, 12, dtype=torch.float64))
    assert called == [1]


def test_a_narrowed_base_and_a_wrapper_are_refused(pair):
    model, second = pair

    class Wrapper(nn.Module):  # as DistributedDataParallel is one
        def __init__(self, module):
            super().__init__()
            self.module = module

    with pytest.raises(ValueError, match="Wrapper is a wrapper of the adapted model"):
        espnet_blora.set_adapter(Wrapper(model), "one")
    second.narrow_base()
    with pytest.raises(ValueError, match="held in half precision for adapter 'second'"):
        espnet_blora.set_adapter(model, "one")
