"""Many draws from the posterior in one pass: the same as as many passes, row for row."""

import copy

import pytest
import torch

import espnet_blora
from espnet_blora.adapters import METHODS
from espnet_blora.adapters.context import sample_seeds

# Every method with a posterior; what is drawn: lora_A alone, lora_B too, in DAMA's middle lora_B.
ALIKE = {"rank": 4, "rho_init_A": -2.0, "target_modules": ["query", "mlp.0"]}
BOTH = {"train_sigma_B": True, "rho_init_B": -2.0}
DAMA = {"theta1": 0.34, "theta2": 1.0, "rho_init_mid": -2.0}
DAMA.update((key, value) for key, value in ALIKE.items() if key != "rank")
KINDS = {
    "blora": ("blora", ALIKE),
    "blora AB": ("blora", {**ALIKE, **BOTH}),
    "blora_dama": ("blora_dama", {**DAMA, "r_high": 6, "r_low": 3}),
}
QUERY, WIDE = (f"decoder.blocks.1.{name}" for name in ("attn.query", "mlp.0"))


@pytest.fixture(params=KINDS)
def drawn(request, build_stack, shake):
    model, (method, conf) = build_stack(), KINDS[request.param]
    adapter = espnet_blora.add_adapter(model, method, **conf)
    adapter.prepare()
    return model.eval().requires_grad_(False), shake(adapter)


def test_these_are_all_methods_with_a_posterior():
    bayesian = {name for name, method in METHODS.items() if method.bayesian}
    assert bayesian == {method for method, _ in KINDS.values()}


def rows(samples, x):
    return x.repeat(samples, *(1 for _ in x.shape[1:]))


@pytest.mark.parametrize("samples", [1, 2, 5])
def test_a_batch_is_as_many_single_draws(drawn, x, samples):
    model, adapter = drawn
    with adapter.sampling_batch(samples, seed=3) as same:
        output = model(rows(samples, x))
        assert same.model is model and torch.equal(model(rows(samples, x)), output)
    singles = []
    for seed in sample_seeds(3, samples):
        with adapter.sampling(seed):
            singles.append(model(x))
    torch.testing.assert_close(output, torch.cat(singles), rtol=0, atol=1e-5)
    means = model(x)
    assert min(float((single - means).abs().max()) for single in singles) > 1e-3
    assert samples == 1 or float((singles[0] - singles[1]).abs().max()) > 1e-3


def test_any_axes_behind_the_rows(drawn):
    layer = drawn[1].layers[WIDE]
    adapter = drawn[1]
    x = torch.randn(6, 3, 2, layer.in_features)
    with adapter.sampling_batch(3, seed=1):
        whole, flat, strided = layer(x), layer(x[:, 0, 0]), layer(x.transpose(1, 2))
        assert layer(x[:0]).shape == (0, 3, 2, layer.out_features)
    torch.testing.assert_close(whole[:, 0, 0], flat, rtol=0, atol=1e-5)
    torch.testing.assert_close(whole.transpose(1, 2), strided, rtol=0, atol=1e-5)


def test_weights_are_drawn_once(drawn, x, monkeypatch):
    model, adapter = drawn
    calls = []
    drawer = torch.randn
    with adapter.sampling_batch(2, seed=0):
        monkeypatch.setattr(torch, "randn", lambda *a, **k: calls.append(a) or drawer(*a, **k))
        for _ in range(3):
            model(rows(2, x))
        kept = adapter.state.context.draws.kept
        assert len(kept) == len(adapter.layers)
    factors = sum((layer.rho_A is not None) + layer.noisy_B for layer in adapter.layers.values())
    assert len(calls) == 2 * factors
    assert adapter.state.context.draws is None  # and nothing else holds them


def test_draws_made_in_inference_mode_serve_any_forward(drawn, x):
    model, adapter = drawn
    with adapter.sampling_batch(2, seed=0):
        with torch.inference_mode():
            output = model(rows(2, x))
        inputs = rows(2, x).requires_grad_()
        again = model(inputs)
        assert torch.equal(again, output)
        again.sum().backward()
    assert inputs.grad.abs().max() > 0


def test_spread_is_a_factor_on_sigma(drawn, x):
    model, adapter = drawn
    mean = model(x)
    with adapter.sampling_batch(2, seed=3, spread=0.0):
        torch.testing.assert_close(model(rows(2, x)), rows(2, mean), rtol=0, atol=1e-5)
    layer = adapter.layers[QUERY]
    name = "A" if layer.rho_A is not None else "B"
    deviations = {}
    for spread in (1.0, 2.0):
        with adapter.sampling(seed=3, spread=spread):
            layer(x)
            (factors,) = adapter.state.context.draws.kept.values()
        deviations[spread] = factors["AB".index(name)][0] - getattr(layer, f"lora_{name}")
    torch.testing.assert_close(deviations[2.0], 2 * deviations[1.0])
    sigma = getattr(layer, f"sigma_{name}")().mean()
    assert float(deviations[1.0].std() / sigma) == pytest.approx(1.0, rel=0.35)


def test_contexts_nest_and_end(drawn, x):
    model, adapter = drawn
    mean = model(x)
    with adapter.sampling(seed=1):
        single = model(x)
        with adapter.sampling_batch(3, seed=1):
            assert not torch.equal(model(rows(3, x))[:3], single)
        assert torch.equal(model(x), single)
    assert torch.equal(model(x), mean)
    with pytest.raises(KeyError), adapter.sampling_batch(3):
        raise KeyError
    assert torch.equal(model(x), mean)
    outcomes = []
    for _ in range(2):  # without a seed torch's own decides
        with adapter.sampling_batch(2):
            outcomes.append(model(rows(2, x)))
    assert not torch.equal(*outcomes)


def test_half_precision_and_copies(drawn, x):
    model, adapter = drawn
    with adapter.sampling_batch(2, seed=3):
        exact = model(rows(2, x))
        copied = copy.deepcopy(model)
        assert torch.equal(copied(rows(2, x)), exact)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.allclose(model(rows(2, x)).float(), exact, atol=0.2)
        half = model.bfloat16()(rows(2, x).bfloat16())
        assert half.dtype == torch.bfloat16 and torch.allclose(half.float(), exact, atol=0.2)


def test_what_is_refused(drawn, build, x):
    model, adapter = drawn
    with adapter.sampling_batch(2, seed=0):
        with pytest.raises(ValueError, match=r"shape \(3, 6, 12\) under 2 posterior samples"):
            model(x)
        with pytest.raises(ValueError, match=r"shape \(12,\) under 2"):
            model(x[0, 0])
        with pytest.raises(ValueError, match=r"call model.eval\(\)"):
            model.train()(rows(2, x))
        model.eval()
        adapter.merge()
        with pytest.raises(ValueError, match="unmerge"):
            model(rows(2, x))
        adapter.unmerge()
    for samples in (0, -1, 1.5, True):
        refused = pytest.raises(ValueError, match="allowed: a whole number >= 1")
        with refused, adapter.sampling_batch(samples):
            pass
    for spread in (-0.1, float("nan")):
        with pytest.raises(ValueError, match="spread is"), adapter.sampling(1, spread=spread):
            pass
    plain = espnet_blora.add_adapter(build(), "lora", rank=4)
    with pytest.raises(ValueError, match="'lora' has no posterior"), plain.sampling_batch(2):
        pass
