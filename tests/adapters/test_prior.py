"""The prior that knows old inputs: the KL by torch.distributions, and what it leaves alone."""

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

import espnet_blora
from espnet_blora.adapters import parse_config
from espnet_blora.adapters.elbo import PriorRoot
from espnet_blora.adapters.moments import Kept, new_sums
from espnet_blora.adapters.sampling import softplus_sigma

TARGETS = ["query", "mlp.2"]
TAU = 2.0


def moment(width, seed=0, decay=0.6):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(40, width, generator=generator) * decay ** torch.arange(width)
    return x.T @ x / 40


@pytest.fixture
def keep_file(build, tmp_path):
    weights = dict(build().named_parameters())
    names = [n.removesuffix(".weight") for n, w in weights.items() if w.dim() == 2]
    sums = new_sums(weights, {name: name for name in names}, {"through": "base"})
    for name in names:
        sums.add(name, moment(weights[f"{name}.weight"].shape[1]), 1)
    sums.heard["old"] = 1.0
    sums.export(tmp_path / "moments", {})
    return str(tmp_path / "moments")


@pytest.fixture
def adapted(build, shake, keep_file):
    def make(method="blora", **conf):
        known = {"prior": "moments", "keep_file": keep_file, "prior_tau": TAU, "prior_std": 0.05}
        options = {"target_modules": TARGETS, **known, **conf}
        return shake(espnet_blora.add_adapter(build().double(), method, **options))

    return make


def expected_kl(adapter):
    """Of lora_A, per matrix mean, by torch.distributions (N(0, p^2 P^-1), P from C itself)."""
    total = 0.0
    for layer in adapter.layers.values():
        c = moment(layer.in_features).double()
        width = len(c)
        precision = torch.eye(width).double() + TAU * c / c.diagonal().mean()
        prior = MultivariateNormal(torch.zeros(width).double(), 0.05**2 * precision.inverse())
        for mean, sigma in zip(layer.lora_A, softplus_sigma(layer.rho_A), strict=True):
            posterior = MultivariateNormal(mean, sigma.square().diag())
            total = total + kl_divergence(posterior, prior) / layer.lora_A.numel()
    return total


def test_the_kl_and_its_gradient_are_those_of_the_prior(adapted):
    adapter = adapted(rank=4)
    term, expected = adapter.kl_terms()["kl_A"], expected_kl(adapter)
    parameters = [p for layer in adapter.layers.values() for p in (layer.lora_A, layer.rho_A)]
    ours, theirs = (torch.autograd.grad(v, parameters) for v in (term, expected))
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-7)  # C is stored in float32
    # the value differs by log |P| - sum_j log P_jj, which nothing trains
    with torch.no_grad():
        before = float(term - expected)
        for layer in adapter.layers.values():
            layer.lora_A.mul_(1.5)
            layer.rho_A.add_(0.3)
        gap = float(adapter.kl_terms()["kl_A"] - expected_kl(adapter))
    assert gap == pytest.approx(before, rel=1e-4)


def test_the_root_of_low_rank_and_a_diagonal():
    generator = torch.Generator().manual_seed(3)
    factor = torch.randn(3, 10, generator=generator)
    rest = torch.rand(10, generator=generator)
    root = PriorRoot.of(Kept(factor, rest, torch.ones(())), TAU)
    c = factor.T @ factor + rest.diag()
    precision = torch.eye(10) + TAU * c / c.diagonal().mean()
    mean = torch.randn(5, 10, generator=generator)
    seen = root.mean(mean)
    torch.testing.assert_close(seen @ seen.T, mean @ precision @ mean.T, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(root.columns.square(), precision.diagonal())
    rho = torch.tensor([[-50.0], [-27.0], [-5.0], [0.5], [20.0]]).expand(5, 10)
    sigma = softplus_sigma(root.rho(rho))
    torch.testing.assert_close(sigma, softplus_sigma(rho) * root.columns, rtol=1e-4, atol=0)


def test_tau_0_is_the_isotropic_prior(adapted, build, shake):
    plain = shake(
        espnet_blora.add_adapter(build().double(), "blora", target_modules=TARGETS, prior_std=0.05)
    )
    aware = adapted(prior_tau=0.0)
    for name, value in plain.kl_terms().items():
        torch.testing.assert_close(aware.kl_terms()[name], value, rtol=1e-9, atol=0)


def test_it_trains_only_and_lies_in_no_file(adapted, trained_state, x, keep_file, tmp_path):
    aware, plain = adapted(), adapted(prior="isotropic", keep_file=None)
    aware.loss_terms()
    one, two = (trained_state(adapter.model) for adapter in (aware, plain))
    assert one.keys() == two.keys()
    inputs = x.double()
    assert torch.equal(aware.model.eval()(inputs), plain.model.eval()(inputs))
    (tmp_path / "moments").unlink()
    other = adapted()
    other.model.load_state_dict(one, strict=False)
    assert torch.equal(other.model.eval()(inputs), aware.model(inputs))
    with pytest.raises(FileNotFoundError, match="file of moments"):
        other.loss_terms()


def test_layers_with_a_frozen_basis_keep_their_prior(build_stack, keep_file, tmp_path):
    base = build_stack()
    weights = dict(base.named_parameters())
    names = [n.removesuffix(".weight") for n, w in weights.items() if w.dim() == 2]
    sums = new_sums(weights, {name: name for name in names}, {"through": "base"})
    for name in names:
        sums.add(name, moment(weights[f"{name}.weight"].shape[1]), 1)
    sums.heard["old"] = 1.0
    sums.export(keep_file, {})
    ranks = {"r_high": 6, "r_low": 3, "theta1": 0.34, "theta2": 1.0, "target_modules": TARGETS}
    adapter = espnet_blora.add_adapter(
        base, "blora_dama", prior="moments", keep_file=keep_file, **ranks
    )
    assert torch.isfinite(adapter.loss_terms()[0])
    rooted = {n: getattr(la, "prior_root", None) is not None for n, la in adapter.layers.items()}
    assert rooted == {n: la.rho_A is not None for n, la in adapter.layers.items()}
    assert set(rooted.values()) == {True, False}


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"prior": "moments"}, "keep_file is None; .*espnet-blora moments"),
        ({"keep_file": "f"}, "keep_file is 'f', but prior is 'isotropic'"),
        ({"prior": "aware"}, "prior is 'aware'; allowed: isotropic, moments"),
        ({"prior": "moments", "keep_file": "f", "prior_tau": -1}, "prior_tau is -1"),
    ],
)
def test_options_are_checked(conf, message):
    with pytest.raises(ValueError, match=message):
        parse_config("blora", conf)


def test_a_resumed_run_is_the_uninterrupted_one(build, keep_file, trained_state, x):
    def start():
        options = {"target_modules": TARGETS, "prior": "moments", "keep_file": keep_file}
        torch.default_generator.manual_seed(1)
        adapter = espnet_blora.add_adapter(build(), "blora", rank=4, **options)
        return adapter, torch.optim.Adam(adapter.trainable_parameters(), lr=0.02)

    def train(adapter, optimiser, steps):
        for _ in range(steps):
            optimiser.zero_grad()
            loss = (adapter.model.train()(x) - 1).square().mean() + adapter.loss_terms()[0]
            loss.backward()
            optimiser.step()

    whole, optimiser = start()
    train(whole, optimiser, 4)
    first, optimiser = start()
    train(first, optimiser, 2)
    second, again = start()
    second.model.load_state_dict(trained_state(first.model), strict=False)
    again.load_state_dict(optimiser.state_dict())
    train(second, again, 2)
    one, two = trained_state(whole.model), trained_state(second.model)
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
