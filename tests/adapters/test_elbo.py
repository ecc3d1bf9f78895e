import itertools
import math

import pytest
import torch
from scipy.optimize import minimize_scalar
from torch.distributions import Normal, kl_divergence

import espnet_blora
from espnet_blora.adapters import parse_config
from espnet_blora.adapters.elbo import ScalePart, beta_at, mean_part

scale_part = ScalePart.apply


def adapter(build, shake, **conf):
    return shake(espnet_blora.add_adapter(build(), "blora", **{"rank": 4, "alpha": 8, **conf}))


def by_hand(adapter, letter, prior_std):
    """The KL of each factor matrix, elementwise, from torch.distributions."""
    result = []
    for layer in adapter.layers.values():
        mean = getattr(layer, f"lora_{letter}").double()
        rho = getattr(layer, f"rho_{letter}").double()
        posterior = Normal(mean, torch.nn.functional.softplus(rho))
        kl = kl_divergence(posterior, Normal(torch.zeros_like(mean), prior_std))
        result.append(kl.detach())
    return result


REDUCE = {
    "per_matrix_mean": lambda kls, total: sum(k.mean() for k in kls),
    "global_mean": lambda kls, total: sum(k.sum() for k in kls) / total,
    "sum_over_tokens": lambda kls, total: sum(k.sum() for k in kls) / 1000,
}


@pytest.mark.parametrize("reduction", REDUCE)
def test_against_torch_distributions(build, shake, reduction):
    conf = {"kl_reduction": reduction, "train_sigma_B": True, "prior_std_B": 0.3}
    if reduction == "sum_over_tokens":
        conf["num_tokens"] = 1000
    handle = adapter(build, shake, target_modules=["query", "mlp.0"], **conf)
    kl_a, kl_b = by_hand(handle, "A", 0.01), by_hand(handle, "B", 0.3)
    total = sum(k.numel() for k in (*kl_a, *kl_b))
    terms = {name: term.detach() for name, term in handle.kl_terms().items()}
    assert len({k.numel() for k in kl_b}) == 2  # matrices of two sizes: the mean is per matrix
    assert float(terms["kl_A"]) == pytest.approx(float(REDUCE[reduction](kl_a, total)), rel=1e-12)
    assert float(terms["kl_B"]) == pytest.approx(float(REDUCE[reduction](kl_b, total)), rel=1e-12)
    assert torch.equal(handle.kl().detach(), terms["kl_A"] + terms["kl_B"])
    assert handle.kl().dim() == 0 and handle.kl().dtype == torch.float64


def negative_elbo(mean, sigma, p, floor):
    """What p matters to: KL plus hyperprior, of one matrix."""
    kl = (mean.square() + sigma.square()) / (2 * p**2) + math.log(p) - sigma.log() - 0.5
    return kl.sum() + mean.numel() * floor**2 / (2 * p**2)


def at_the_best_width(adapter, floor):
    """Mean over the elements of each matrix, at the p that a search finds."""
    total = 0.0
    for layer, letter in itertools.product(adapter.layers.values(), "AB"):
        mean = getattr(layer, f"lora_{letter}").double()
        sigma = torch.nn.functional.softplus(getattr(layer, f"rho_{letter}").double())
        fixed = mean.detach(), sigma.detach()
        found = minimize_scalar(
            lambda log_p, fixed=fixed: float(negative_elbo(*fixed, math.exp(log_p), floor)),
            bounds=(-8, 3),
            options={"xatol": 1e-9},
        )
        total = total + negative_elbo(mean, sigma, math.exp(found.x), floor) / mean.numel()
    return total


def test_auto_has_the_slope_of_the_elbo_at_its_best_width(build, shake):
    conf = {"prior_std": "auto", "prior_floor": 0.02, "train_sigma_B": True, "kl_dtype": "float64"}
    handle = adapter(build, shake, target_modules=["query", "mlp.0"], **conf)
    parameters = list(handle.trainable_parameters())
    ours = torch.autograd.grad(handle.kl(), parameters)
    searched = at_the_best_width(handle, 0.02)
    for one, two in zip(ours, torch.autograd.grad(searched, parameters), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-7)


def test_auto_is_bounded_at_zero_and_pulls_less_on_what_has_grown(build, shake):
    """At lora_B = 0, where a fresh adapter starts, as an isotropic prior of the floor's width."""
    handle = espnet_blora.add_adapter(build(), "blora", rank=4, prior_std="auto", prior_floor=0.1)
    plain = espnet_blora.add_adapter(build(), "blora", rank=4, prior_std=0.1)

    def pull(adapter, entry):
        for layer in adapter.layers.values():
            with torch.no_grad():
                layer.lora_B.fill_(entry)
        (slope, *_) = torch.autograd.grad(
            adapter.kl_terms()["kl_B"], [la.lora_B for la in adapter.layers.values()]
        )
        return slope.mean().item()

    assert pull(handle, 0.0) == 0.0 and math.isfinite(handle.kl().item())
    for entry in (1e-6, 1e-3):
        assert pull(handle, entry) == pytest.approx(pull(plain, entry), rel=1e-3)
    for entry in (0.1, 1.0):  # p^2 = floor^2 + entry^2
        expected = pull(plain, entry) * 0.1**2 / (0.1**2 + entry**2)
        assert pull(handle, entry) == pytest.approx(expected, rel=1e-6)


def test_auto_of_one_factor_alone(build, shake):
    kept = adapter(build, shake, prior_std_A="auto", prior_floor=0.2)
    plain = adapter(build, shake)
    assert torch.equal(kept.kl_terms()["kl_B"], plain.kl_terms()["kl_B"])
    assert kept.kl_terms()["kl_A"] < plain.kl_terms()["kl_A"]


def test_against_monte_carlo():
    generator = torch.Generator().manual_seed(0)
    mean, rho, prior_std = torch.tensor(0.02), torch.tensor(-4.5), 0.01
    sigma = torch.nn.functional.softplus(rho)
    draws = mean + sigma * torch.randn(400_000, generator=generator)
    log_ratio = Normal(mean, sigma).log_prob(draws) - Normal(0.0, prior_std).log_prob(draws)
    exact = float(mean_part(mean[None], prior_std) + scale_part(rho[None], prior_std))
    assert exact == pytest.approx(float(log_ratio.mean()), rel=0.01)


def test_frozen_sigma_B_adds_nothing_unless_asked_for(build, shake):
    handle = adapter(build, shake)
    full = handle.kl_terms(constants=True)
    expected = sum(k.mean() for k in by_hand(handle, "B", 0.01))
    assert full["kl_B"].item() == pytest.approx(float(expected), rel=1e-12)
    constant = len(handle.layers) * (math.log(0.01) + 50.0 - 0.5)
    assert (full["kl_B"] - handle.kl_terms()["kl_B"]).item() == pytest.approx(constant, rel=1e-9)
    assert torch.equal(full["kl_A"], handle.kl_terms()["kl_A"])


def test_a_point_lora_B_has_no_kl(build, shake):
    handle = adapter(build, shake, bayesian_factors="A")
    assert handle.kl_terms()["kl_B"].item() == 0.0 and handle.kl_terms()["kl_A"].item() > 0.0
    assert all(layer.rho_B is None for layer in handle.layers.values())


@pytest.mark.parametrize(("dtype", "rel"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_the_scale_part_is_exact_and_finite_everywhere(dtype, rel):
    """With p = 1: -log sigma + sigma^2 / 2 - 1/2, slope (sigma - 1 / sigma) sigmoid(rho)."""
    for rho in (-1e4, -200.0, -80.0, -50.0, -18.0, -10.0, 0.0, 5.0, 40.0):
        element = torch.tensor([rho], dtype=dtype, requires_grad=True)
        value = scale_part(element, 1.0)
        value.backward()
        assert torch.isfinite(value) and torch.isfinite(element.grad).all()
        if rho < (-87 if dtype == torch.float32 else -708):
            assert element.grad.item() == pytest.approx(-1.0)  # and still towards the prior
            continue
        sigma = math.log1p(math.exp(rho))
        expected = sigma**2 / 2 - math.log(sigma) - 0.5
        slope = (sigma - 1 / sigma) / (1 + math.exp(-rho))
        assert value.item() == pytest.approx(expected, rel=rel, abs=rel)
        assert element.grad.item() == pytest.approx(slope, rel=10 * rel)


@pytest.mark.parametrize("kl_dtype", ["float32", "float64"])
def test_finite_for_deterministic_scales(build, shake, kl_dtype):
    handle = adapter(build, shake, kl_dtype=kl_dtype)
    with torch.no_grad():
        for layer in handle.layers.values():
            layer.rho_A.fill_(-50.0)
    total = sum(handle.kl_terms(constants=True).values())
    total.backward()
    assert torch.isfinite(total) and total.dtype == getattr(torch, kl_dtype)
    for parameter in handle.trainable_parameters():
        assert torch.isfinite(parameter.grad).all()


def test_fp32_and_fp64_agree(build, shake):
    values = [adapter(build, shake, kl_dtype=d).kl().item() for d in ("float32", "float64")]
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_the_size_of_the_kl_at_the_start_of_the_paper_s_setting():
    """Of width 1280: 1.3 nats an element from Kaiming means, 0.2 from scales; beta 0.5 is sane."""
    model = torch.nn.Sequential()
    model.query = torch.nn.Linear(1280, 4)
    handle = espnet_blora.add_adapter(model, "blora", preset="paper", target_modules=["query"])
    terms = handle.kl_terms()
    assert terms["kl_A"].item() == pytest.approx(1280**-1 / 3 / 2e-4 + 0.16, abs=0.04)
    assert terms["kl_B"].item() == 0.0


def test_gradients():
    mean = torch.randn(6, dtype=torch.float64, requires_grad=True)
    rho = torch.tensor([-30.0, -18.1, -17.9, -5.0, 0.0, 2.0], dtype=torch.float64)
    rho.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda m, r: mean_part(m, 0.5) + scale_part(r, 0.5), (mean, rho)
    )


def test_a_posterior_equal_to_the_prior_costs_nothing():
    rho = torch.tensor([0.01], dtype=torch.float64).expm1().log()
    assert float(scale_part(rho, 0.01)) == pytest.approx(0.0, abs=1e-12)
    assert float(mean_part(torch.zeros(1), 0.01)) == 0.0


def betas(steps, **conf):
    config = parse_config("blora", {"beta": 0.4, **conf})
    return [beta_at(config, step) for step in steps]


def test_constant():
    assert betas([0, 1, 10**6]) == [0.4] * 3


def test_linear_reaches_beta_at_the_end_of_the_warm_up_and_stays():
    got = betas([0, 1, 2, 4, 5], schedule="linear", warmup_steps=4)
    assert got == pytest.approx([0.0, 0.1, 0.2, 0.4, 0.4])


def test_cyclic_starts_over_each_cycle():
    got = betas(range(1, 10), schedule="cyclic", cycle_steps=4, cycle_ramp=0.5)
    assert got == pytest.approx([0.2, 0.4, 0.4, 0.4] * 2 + [0.2])
