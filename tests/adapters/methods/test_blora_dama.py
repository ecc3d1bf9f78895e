import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

import espnet_blora
from espnet_blora.adapters import parse_config

EARLY, MIDDLE = "decoder.blocks.0.attn.query", "decoder.blocks.1.attn.query"


def make(build_stack, **conf):
    model = build_stack(dtype=torch.float64)
    options = {"r_high": 6, "r_low": 3, "theta1": 0.34, "theta2": 1.0, **conf}
    return model, espnet_blora.add_adapter(model, "blora_dama", **options)


def trained(layer):
    return {name for name, p in layer.named_parameters() if p.requires_grad}


def test_what_has_a_posterior(build_stack):
    _, adapter = make(build_stack)
    assert adapter.bayesian and adapter.layers[EARLY].rank == 6 and adapter.layers[MIDDLE].rank == 3
    assert trained(adapter.layers[EARLY]) == {"lora_A", "lora_B", "rho_A"}
    assert trained(adapter.layers[MIDDLE]) == {"lora_B", "rho_B"}
    assert adapter.layers[MIDDLE].sigma_A() is None
    assert set(adapter.layers[MIDDLE].factors()) == {"lora_A", "lora_B", "rho_B", "basis_ready"}
    _, free = make(build_stack, train_mid_A=True)
    assert trained(free.layers[MIDDLE]) == {"lora_A", "lora_B", "rho_A"}
    _, only_a = make(build_stack, bayesian_factors="A")
    assert trained(only_a.layers[EARLY]) == {"lora_A", "lora_B", "rho_A"}
    assert only_a.layers[EARLY].rho_B is None
    assert trained(only_a.layers[MIDDLE]) == {"lora_B", "rho_B"}  # else nothing would be uncertain


@pytest.mark.parametrize("reduction", ["per_matrix_mean", "global_mean"])
def test_the_kl_is_over_what_has_a_posterior(build_stack, shake, reduction):
    _, adapter = make(build_stack, kl_reduction=reduction, prior_std_B=0.3, train_sigma_B=True)
    adapter.prepare()
    shake(adapter)  # of a basis, too: it must not count
    divergences = {"A": [], "B": []}
    for layer in adapter.layers.values():
        for letter, prior_std in (("A", 0.01), ("B", 0.3)):
            mean, rho = getattr(layer, f"lora_{letter}"), getattr(layer, f"rho_{letter}")
            if rho is not None:
                prior = Normal(torch.zeros_like(mean), prior_std)
                posterior = Normal(mean, nn.functional.softplus(rho))
                divergences[letter].append(kl_divergence(posterior, prior).detach())
    assert len(divergences["A"]) == 12 and len(divergences["B"]) == 18
    total = sum(kl.numel() for kl in (*divergences["A"], *divergences["B"]))
    terms = adapter.kl_terms()
    for letter, kls in divergences.items():
        by_matrix = sum(float(kl.mean()) for kl in kls)
        overall = sum(float(kl.sum()) for kl in kls) / total
        expected = by_matrix if reduction == "per_matrix_mean" else overall
        assert terms[f"kl_{letter}"].item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("sampling", ["weight", "flipout", "local"])
def test_the_middle_draws_lora_B_alone(build_stack, shake, sampling):
    """Around the mean, by x A^T and the sigma of lora_B."""
    _, adapter = make(build_stack, sampling=sampling, rho_init_mid=-2.0, alpha=3)
    adapter.prepare()
    layer = adapter.layers[MIDDLE].train()
    x = torch.randn(1, 2, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    drawn = []
    for _ in range(1500):
        adapter.advance()
        drawn.append(layer(x).detach())
    drawn = torch.stack(drawn)
    low = nn.functional.linear(x, layer.lora_A)
    variance = nn.functional.linear(low.square(), layer.sigma_B().square()).detach()
    base = nn.functional.linear(x, layer.weight, layer.bias)
    assert layer.scaling == 1.0 and torch.allclose(layer.eval()(x), base)
    assert (drawn.var(0) / variance).mean().item() == pytest.approx(1.0, abs=0.06)
    assert ((drawn.mean(0) - base).abs() < 4.5 * (variance / 1500).sqrt()).all()


def test_statistics_and_collapse_look_at_what_is_trained(build_stack, caplog):
    _, adapter = make(build_stack)
    adapter.prepare()
    adapter.state.context.step = 101
    with torch.no_grad():
        for layer in adapter.layers.values():
            if isinstance(layer.lora_A, nn.Parameter):
                layer.lora_A.mul_(1e-4)
    values = adapter.statistics()
    assert values["small_share_A"] == 1.0 and "collapsed" in caplog.text  # whatever the bases are
    assert {"sigma_A_q50", "sigma_B_q50"} <= set(values)


def test_bad_options():
    with pytest.raises(ValueError, match="adapter_conf of blora_dama: unknown key 'preset'"):
        parse_config("blora_dama", {"preset": "paper"})
    with pytest.raises(ValueError, match="rho_init_mid is -50.0 and trained"):
        parse_config("blora_dama", {"rho_init_mid": -50})
    with pytest.raises(ValueError, match="needs warmup_steps"):
        parse_config("blora_dama", {"schedule": "linear"})
    assert parse_config("blora_dama", {"rho_init_mid": [-6, -5]}).rho_init_mid == (-6.0, -5.0)
