"""What every adapter method promises, whatever it does: one battery over all of METHODS."""

import copy
import pickle
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import espnet_blora
from espnet_blora.adapters import METHODS, average_states, get_adapter
from espnet_blora.adapters.fisher import Fisher, save_fisher
from espnet_blora.adapters.moments import new_sums

# Small values of the options that methods have in common; the rest are a method's defaults.
SMALL = {
    "rank": 4,
    "alpha": 8,
    "r_high": 6,
    "r_low": 3,
    "theta1": 0.34,
    "theta2": 1.0,
    "target_modules": ["query", "mlp.0", "mlp.2"],  # square, high and wide weights
}
# What a method needs beside, or instead.
OWN = {
    "adalora": {"target_rank": 2, "total_steps": 1000},
    "vblora": {"num_vectors": 6},
}
FACTORISE = ("svd", "qr", "eigh", "eig", "svdvals", "lstsq", "pinv")


def write_fisher(base, path):
    """Write a file that lora_ewc reads, of every matrix of `base`; give it to OWN."""
    weights = {name: weight for name, weight in base.named_parameters() if weight.dim() == 2}
    values = {name: weight.detach().square() for name, weight in weights.items()}
    save_fisher(path, Fisher(values, 1, 1), weights, {})
    OWN["lora_ewc"] = {"fisher_file": str(path)}


def write_moments(base, path):
    """Write a file that lora_keep reads, of every matrix of `base`; give it to OWN."""
    weights = {name: weight for name, weight in base.named_parameters() if weight.dim() == 2}
    names = [name.removesuffix(".weight") for name in weights]
    sums = new_sums(weights, dict(zip(names, names, strict=True)), {"through": "base"})
    for name in names:
        weight = weights[f"{name}.weight"].detach()
        sums.add(name, weight.T @ weight, 1)
    sums.heard["old"] = 1.0
    sums.export(path, {})
    OWN["lora_keep"] = {"keep_file": str(path)}


@pytest.fixture(autouse=True)
def old_data(build_stack, tmp_path_factory):
    if "lora_ewc" not in OWN:
        write_fisher(build_stack(), tmp_path_factory.mktemp("fisher") / "fisher")
        write_moments(build_stack(), tmp_path_factory.mktemp("moments") / "moments")


@pytest.fixture(params=list(METHODS))
def method(request):
    return request.param


def options(method, **change):
    known = METHODS[method].config.options()
    common = {key: value for key, value in SMALL.items() if key in known}
    return {**common, **OWN.get(method, {}), **change}


@pytest.fixture
def make(build_stack, method):
    def adapted(seed=0, **kind):
        model = build_stack(seed=seed, **kind)
        torch.default_generator.manual_seed(3)
        return model, espnet_blora.add_adapter(model, method, **options(method))

    return adapted


@pytest.fixture
def batches():
    return list(torch.randn(6, 2, 3, 12, generator=torch.Generator().manual_seed(2)))


@contextmanager
def no_factorisation():
    """In here any factorisation of a matrix fails."""

    def refuse(*args, **kwargs):
        raise AssertionError("a matrix is factorised")

    with pytest.MonkeyPatch.context() as patch:
        for name in FACTORISE:
            patch.setattr(torch.linalg, name, refuse)
        for name in ("svd", "svd_lowrank", "pca_lowrank"):
            patch.setattr(torch, name, refuse)
        yield


def optimiser_of(adapter):
    optimiser = torch.optim.AdamW(adapter.trainable_parameters(), lr=0.02, weight_decay=0.1)
    adapter.follow(optimiser)
    return optimiser


def train(model, adapter, optimiser, batches):
    losses = []
    for batch in batches:
        model.train()
        optimiser.zero_grad()
        loss = model(batch).square().mean()
        if adapter.has_loss_term:
            loss = loss + adapter.loss_terms()[0].to(loss.dtype)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.fixture
def trained(make, batches):
    """A model whose adapter has been trained for a few steps, in eval()."""
    model, adapter = make()
    train(model, adapter, optimiser_of(adapter), batches)
    return model.eval(), adapter


def tensors(adapter):
    return {
        f"{name}.{factor}": tensor
        for name, layer in adapter.layers.items()
        for factor, tensor in layer.factors().items()
    }


def of(adapter, kind):
    """Copies of the trained tensors of the adapter, or of the frozen ones."""
    trained = kind == "trained"
    chosen = {k: t for k, t in tensors(adapter).items() if t.requires_grad is trained}
    return {key: tensor.detach().clone() for key, tensor in chosen.items()}


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


NO_RIGHT_FACTOR = {"dora", "vera", "vblora"}  # their updates are no product of factors of a layer


def test_what_the_input_meets_first_turns_the_whole_update(trained, method):
    _, adapter = trained
    generator = torch.Generator().manual_seed(5)
    for layer in adapter.layers.values():
        assert bool(layer.right_names) is (method not in NO_RIGHT_FACTOR)
        before = layer.delta_weight().detach().clone()
        turn = torch.randn(layer.in_features, layer.in_features, generator=generator)
        with torch.no_grad():
            for name in layer.right_names:
                getattr(layer, name).copy_(getattr(layer, name) @ turn)
        if layer.right_names:
            expected = before @ turn
            gap = (layer.delta_weight().detach() - expected).norm() / expected.norm()
            assert float(gap) < 1e-4


@pytest.mark.parametrize("kind", ["plain", "casting", "doubling"])
def test_a_fresh_adapter_is_its_base_bit_for_bit(make, linears, build_stack, method, kind, x):
    if not METHODS[method].identity:
        pytest.skip("this method does not promise it")  # VB-LoRA starts away from its base
    expected = build_stack(linear=linears[kind])(x)
    model, _ = make(linear=linears[kind])
    assert torch.equal(model.eval()(x), expected)


def test_training_moves_what_is_trained_and_nothing_else(make, batches, build_stack):
    model, adapter = make()
    adapter.prepare()
    base = build_stack().state_dict()
    before, frozen = of(adapter, "trained"), of(adapter, "frozen")
    optimiser = optimiser_of(adapter)
    for _ in range(3):
        train(model, adapter, optimiser, batches[:2])
        model.eval()(batches[0])
    state = model.state_dict()
    assert base and all(torch.equal(state[name], value) for name, value in base.items())
    after = of(adapter, "trained")
    assert before.keys() == after.keys() and before
    assert [name for name in before if torch.equal(before[name], after[name])] == []
    assert same(of(adapter, "frozen"), frozen)


def test_what_is_frozen_is_a_buffer_that_ddp_leaves_alone(make):
    model, adapter = make()
    buffers = {name for name, _ in model.named_buffers()}
    ignored = set(model._ddp_params_and_buffers_to_ignore)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    own = tensors(adapter)
    assert trained == {name for name, tensor in own.items() if tensor.requires_grad}
    assert own.keys() - trained <= buffers
    assert buffers <= ignored and not ignored & trained


def test_the_trained_state_is_all_that_a_reload_needs(trained, make, trained_state, x):
    model, adapter = trained
    state = trained_state(model)
    assert not {"head.weight", "decoder.blocks.0.attn.query.weight"} & state.keys()
    other, loaded = make()
    with no_factorisation():  # stored bases are not computed again
        result = other.load_state_dict(state, strict=False)
        assert torch.equal(other.eval()(x), model(x))
    assert result.unexpected_keys == [] and loaded.step == adapter.step == 6
    assert same(of(loaded, "frozen"), of(adapter, "frozen"))


def test_a_file_is_all_that_a_reload_needs(trained, make, build_stack, tmp_path, x):
    model, adapter = trained
    adapter.save(tmp_path / "adapter")
    for other in (build_stack(), make()[0]):
        with no_factorisation():
            loaded = espnet_blora.load_adapter(other, tmp_path / "adapter")
            assert torch.equal(other.eval()(x), model(x))
        assert (loaded.method, loaded.config, loaded.step) == (adapter.method, adapter.config, 6)
        assert same(tensors(loaded), tensors(adapter))
        assert not other.head.weight.requires_grad


def test_a_resumed_run_is_the_uninterrupted_one(make, batches, trained_state):
    model, adapter = make()
    optimiser = optimiser_of(adapter)
    train(model, adapter, optimiser, batches[:3])
    saved = copy.deepcopy((trained_state(model), optimiser.state_dict()))
    rest = train(model, adapter, optimiser, batches[3:])
    torch.manual_seed(99)  # a new process has another global state
    model2, adapter2 = make()
    optimiser2 = optimiser_of(adapter2)
    model2.load_state_dict(saved[0], strict=False)
    optimiser2.load_state_dict(saved[1])
    assert train(model2, adapter2, optimiser2, batches[3:]) == rest
    assert same(tensors(adapter2), tensors(adapter))


def unlike(method, config):
    """(option, other value) of an option that a checkpoint must agree in."""
    for key in config.structural:
        value = getattr(config, key)
        if isinstance(value, (int, float)):
            return key, not value if isinstance(value, bool) else value + 1
    raise AssertionError(f"{method} has no structural option with a number")


def test_what_does_not_fit_is_refused(
    trained, make, build_stack, method, trained_state, tmp_path, x
):
    model, adapter = trained
    state, path = trained_state(model), tmp_path / "adapter"
    adapter.save(path)
    wrong_base, _ = make(seed=1)
    with pytest.raises(ValueError, match="wrong base"):
        wrong_base.load_state_dict(state, strict=False)
    with pytest.raises(ValueError, match="wrong base"):
        espnet_blora.load_adapter(build_stack(seed=1), path)
    key, value = unlike(method, adapter.config)
    changed = build_stack()
    espnet_blora.add_adapter(changed, method, **options(method, **{key: value}))
    another = build_stack()
    name = next(name for name in METHODS if name != method)
    espnet_blora.add_adapter(another, name, **options(name))
    for other, message in ((changed, f"trained with {key} "), (another, f"of adapter '{method}'")):
        before = other.eval()(x)
        with pytest.raises(ValueError, match=message):
            other.load_state_dict(state, strict=False)
        with pytest.raises(ValueError, match=message):
            espnet_blora.load_adapter(other, path)
        assert torch.equal(other(x), before)
    for key in {key.rpartition(".")[2]: key for key in tensors(adapter)}.values():  # of each kind
        less = {k: v for k, v in state.items() if k != key}
        with pytest.raises(ValueError, match="1 are missing"):
            make()[0].load_state_dict(less, strict=False)


def test_merged_is_factored_and_unmerging_is_exact(trained, method, x):
    model, adapter = trained
    if not METHODS[method].merges:
        with pytest.raises(ValueError, match="cannot be merged"):
            adapter.merge()
        return
    factored, state = model(x), copy.deepcopy(model.state_dict())
    with adapter.disabled():
        assert (model(x) - factored).abs().max() > 1e-3  # the update matters
    adapter.merge()
    merged = model(x)
    assert (merged - factored).abs().max() <= 1e-5
    adapter.merge()
    assert torch.equal(model(x), merged)  # twice is once
    assert same(model.state_dict(), state)
    adapter.unmerge()
    assert torch.equal(model(x), factored)


def test_the_scale_turns_the_update_down_to_the_base(trained, build_stack, method, x):
    """base(x) + scale * update(x), whatever the method: what sweeps over the scale rely on."""
    model, adapter = trained
    full, base = model(x), build_stack()(x)
    with adapter.scaled(0.0):
        assert torch.equal(model(x), base)
    assert torch.equal(model(x), full)
    for layer in adapter.layers.values():
        inputs = torch.randn(4, layer.in_features, generator=torch.Generator().manual_seed(4))
        whole = layer(inputs)
        with adapter.disabled():
            none = layer(inputs)
        with adapter.scaled(0.5):
            torch.testing.assert_close(layer(inputs), (none + whole) / 2, rtol=1e-4, atol=1e-5)
            half = layer.delta_weight() if METHODS[method].merges else None
        if half is not None:
            torch.testing.assert_close(half, layer.delta_weight() / 2, rtol=1e-5, atol=1e-7)


def test_on_meta_nothing_is_computed_and_all_is_counted(make, x):
    real, adapter = make()
    with no_factorisation():
        meta, counted = make(device="meta")
        counted.prepare()
        assert meta.train()(x.to("meta")).shape == (3, 6, 5)
    assert counted.report() == adapter.report()
    shapes = {key: value.shape for key, value in real.state_dict().items()}
    assert {key: value.shape for key, value in meta.state_dict().items()} == shapes


def bases(adapter):
    return {
        f"{name}.{basis}": getattr(layer, basis).detach().clone()
        for name, layer in adapter.layers.items()
        for basis in layer.basis_names
    }


def test_bases_are_of_the_base_that_is_loaded_later(make, build_stack, batches, trained_state):
    """ESPnet puts the base in (init_param) after the adapter; until then there is only noise."""
    with no_factorisation():
        late, adapter = make(seed=1)
        state = late.state_dict()
        state.update(build_stack().state_dict())  # what load_pretrained_model does
        late.load_state_dict(state)
    adapter.prepare()
    (_, expected), (_, noise) = make(), make(seed=1)
    expected.prepare()
    noise.prepare()
    assert same(bases(adapter), bases(expected))
    assert not bases(adapter) or not same(bases(adapter), bases(noise))
    with no_factorisation():  # training starts from what is there
        train(late, adapter, optimiser_of(adapter), batches[:1])
    first, started = make()  # without prepare() the first training forward does it
    first.train()(batches[0])
    assert same(bases(started), bases(expected))


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_copies_work_and_stand_on_their_own(make, batches, way, x):
    model, adapter = make()
    train(model, adapter, optimiser_of(adapter), batches[:2])
    copied = copy.deepcopy(model) if way == "deepcopy" else pickle.loads(pickle.dumps(model))
    other = get_adapter(copied)
    assert other.step == adapter.step == 2 and same(tensors(other), tensors(adapter))
    assert torch.equal(copied(x), model(x))  # noise included: both are at step 3
    train(copied, other, optimiser_of(other), batches[:1])
    assert not same(of(other, "trained"), of(adapter, "trained"))
    with pytest.raises(ValueError, match="holds none"):
        copied.load_state_dict({}, strict=False)  # the hooks came along; strict would hide that


def test_half_precision_and_autocast(trained, x):
    model, _ = trained
    exact = model(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.allclose(model(x).float(), exact, atol=0.1)
        assert torch.isfinite(model.train()(x)).all()
    for dtype in (torch.float16, torch.bfloat16):
        half = copy.deepcopy(model).to(dtype)
        assert torch.allclose(half.eval()(x.to(dtype)).float(), exact, atol=0.1)
        assert torch.isfinite(half.train()(x.to(dtype))).all()


def test_the_first_forward_under_autocast_or_in_half_precision_is_sound(make, x):
    """Bases are then computed from a rounded weight, but never in half precision."""
    exact = make()[0].eval()(x)
    model, _ = make()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.allclose(model.eval()(x).float(), exact, atol=0.1)
    model, _ = make()
    assert torch.allclose(model.bfloat16().eval()(x.bfloat16()).float(), exact, atol=0.1)


def test_averaging_changes_means_alone(make, batches, trained_state):
    runs = []
    for count in (2, 4, 6):
        model, adapter = make()
        train(model, adapter, optimiser_of(adapter), batches[:count])
        runs.append((model, adapter, trained_state(model)))
    model, adapter, best = runs[1]
    average = average_states([state for _, _, state in runs], best)
    moved = {key for key in best if not torch.equal(average[key], best[key])}
    assert moved and moved <= of(adapter, "trained").keys()
    model.load_state_dict(average, strict=False)
    assert adapter.step == 4


@pytest.mark.integration
def test_two_ranks_agree(tmp_path):
    """All methods in one pair of processes, with other random states and other singular vectors."""
    program = [sys.executable, str(Path(__file__).parent / "two_ranks.py"), str(tmp_path / "store")]
    ranks = [
        subprocess.Popen(
            [*program, str(rank)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for rank in range(2)
    ]
    outputs = [rank.communicate(timeout=300)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], outputs
    lines = [line.split() for line in outputs[0].splitlines() if line.startswith("checked")]
    assert [line[1] for line in lines] == [*METHODS, "blora"]  # the last with prior: moments
    with_bases = [line[1] for line in lines if int(line[2]) > 0]
    assert "dama" in with_bases and "lora" not in with_bases
