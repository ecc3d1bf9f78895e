"""The repair of an update: its closed form, its limits, what it predicts and what it refuses."""

import pytest
import torch

import espnet_blora
from espnet_blora.adapters.moments import Moments
from espnet_blora.adapters.repair import RIDGE, FullRepair, Repair, alike, directions
from espnet_blora.adapters.sampling import softplus_sigma

TARGETS = ["query", "key", "mlp.2"]


def second_moment(width, seed, decay=0.7):
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(width, width, generator=generator).double()).Q
    return basis * (decay ** torch.arange(width).double()) @ basis.T


class Fixed(Moments):
    """Moments in memory: query and key read the same, old and new along other directions."""

    def matrix(self, layer):
        seed = sum(map(ord, self.layers[layer])) + (0 if self.made["same"] else 1000)
        return second_moment(24 if layer.endswith("mlp.2") else 12, seed)


def moments(layers, same=True, through="base"):
    inputs = {name: name.replace("query", "qk").replace("key", "qk") for name in layers}
    made = {"through": through, "same": same}
    return Fixed("file", inputs, {}, made, 1.0)


@pytest.fixture(params=["lora", "blora"])
def adapter(build, shake, request):
    return shake(espnet_blora.add_adapter(build(), request.param, rank=4, target_modules=TARGETS))


def repair(adapter, same=False):
    layers = adapter.layers
    return Repair(adapter.method, layers, moments(layers), moments(layers, same, "adapted"))


def ridged(moment):
    return moment + RIDGE * moment.diagonal().mean() * torch.eye(len(moment)).double()


def deltas(adapter):
    return {n: layer.delta_weight().detach().double() for n, layer in adapter.layers.items()}


def test_it_is_the_minimum_of_both_quadratics(adapter):
    before, mu = deltas(adapter), 0.3
    with repair(adapter).applied(mu):
        after = deltas(adapter)
    assert all(torch.equal(before[n], again) for n, again in deltas(adapter).items())
    layers = adapter.layers
    for name, update in before.items():
        new, old = (ridged(moments(layers, s).matrix(name)) for s in (False, True))
        expected = update - mu * update @ old @ torch.linalg.inv(new + mu * old)
        torch.testing.assert_close(after[name], expected, rtol=0, atol=1e-5)
        # the gradient of tr((D - dW) C_n (D - dW)^T) + mu tr(D C_o D^T) is 0 there
        slope = (expected - update) @ new + mu * expected @ old
        assert float(slope.norm()) < 1e-10
        assert torch.linalg.matrix_rank(after[name], rtol=1e-4) <= 4


def test_strength_0_is_the_identity_bit_for_bit(adapter):
    before = {name: tensor.detach().clone() for name, tensor in adapter.factors().items()}
    work = repair(adapter)
    assert work.tensors(0.0) == {}
    with work.applied(0.0):
        assert all(torch.equal(before[name], t) for name, t in adapter.factors().items())


def test_with_like_inputs_it_is_the_scale(adapter):
    before, work = deltas(adapter), repair(adapter, same=True)
    with work.applied(0.25):
        for name, update in deltas(adapter).items():
            torch.testing.assert_close(update, before[name] / 1.25, rtol=1e-5, atol=1e-7)
    curve = work.curve([0.0, 0.1, 0.25])
    for row in curve:
        assert row.old == pytest.approx(curve[0].old / (1 + row.strength) ** 2)
        assert row.old == pytest.approx(row.old_by_scale)
    assert alike(curve) and not alike(repair(adapter).curve([0.0, 0.1, 0.25]))


def test_the_curve_is_what_the_repaired_update_does(adapter):
    work, layers = repair(adapter), adapter.layers
    before = deltas(adapter)
    (row,) = work.curve([0.5])
    with work.applied(0.5):
        after = deltas(adapter)
    old = lost = whole = 0.0
    for name, layer in layers.items():
        weight = layer.weight.detach().double()
        new_c, old_c = (ridged(moments(layers, s).matrix(name)) for s in (False, True))

        def size(matrix, moment):
            return float(((matrix @ moment) * matrix).sum())

        old += size(after[name], old_c) / size(weight, old_c)
        lost += size(after[name] - before[name], new_c) / size(weight, new_c)
        whole += size(before[name], new_c) / size(weight, new_c)
    assert row.old == pytest.approx(old, rel=1e-4)
    assert row.lost == pytest.approx(lost / whole, rel=1e-4)
    assert row.old < 0.9 * row.old_by_scale


def test_posterior_scales_get_their_exact_marginals(build, shake):
    adapter = shake(espnet_blora.add_adapter(build(), "blora", rank=4, target_modules=["query"]))
    name, layer = next(iter(adapter.layers.items()))
    work = repair(adapter)
    found = directions(*(moments(adapter.layers, s).matrix(name) for s in (False, True)))
    eye = torch.eye(12).double()
    turn = found.applied(eye, 0.4)
    torch.testing.assert_close(found.squared(0.4), turn.square())
    variance = softplus_sigma(layer.rho_A).double().square() @ turn.square()
    with work.applied(0.4):
        sigma = softplus_sigma(layer.rho_A).double()
    torch.testing.assert_close(sigma.square(), variance, rtol=1e-5, atol=0)


def test_all_weights_are_repaired_linear_by_linear_and_the_rest_is_scaled(build, shake):
    """A model whose Linears were moved by a LoRA's update, and all else at random."""
    lora = shake(espnet_blora.add_adapter(build(), "lora", rank=4, target_modules=TARGETS))
    with repair(lora).applied(0.3):
        expected = deltas(lora)
    updates, base = deltas(lora), build()
    model, before = build(), dict(base.named_parameters())
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            update = updates.get(name.removesuffix(".weight"))
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise if update is None else update.to(parameter))
    weights, linears = dict(model.named_parameters()), list(lora.layers)
    files = moments(linears), moments(linears, False, "adapted")
    work = FullRepair(weights, before, linears, *files)
    trained = {name: parameter.detach().clone() for name, parameter in weights.items()}
    with work.applied(0.0):
        assert all(torch.equal(weights[name], value) for name, value in trained.items())
    with work.applied(0.3):
        for name, parameter in weights.items():
            update = parameter.double() - before[name].double()
            if (linear := name.removesuffix(".weight")) in linears:
                torch.testing.assert_close(update, expected[linear], rtol=1e-3, atol=1e-5)
            else:
                whole = trained[name].double() - before[name].double()
                torch.testing.assert_close(update, whole / 1.3, rtol=1e-4, atol=1e-6)
    assert all(torch.equal(weights[name], value) for name, value in trained.items())
    theirs, ours = (each.curve([0.0, 0.3]) for each in (repair(lora), work))
    for one, two in zip(theirs, ours, strict=True):
        assert two == pytest.approx(one, rel=1e-3)
    with pytest.raises(ValueError, match="the base lacks 1 of this model's parameters, first new"):
        FullRepair({**weights, "new": torch.zeros(1)}, before, linears, *files)


def test_what_cannot_be_repaired(build):
    pytest.importorskip("peft")
    dora = espnet_blora.add_adapter(build(), "dora", rank=2, target_modules=["query"])
    with pytest.raises(ValueError, match=r"'dora' cannot be repaired.*blocks\.0\.attn\.query"):
        repair(dora)
    lora = espnet_blora.add_adapter(build(), "lora", rank=2, target_modules=["query"])
    both = moments(lora.layers), moments(lora.layers, False, "adapted")
    with pytest.raises(ValueError, match="was heard by the adapted model"):
        Repair("lora", lora.layers, both[1], both[0])
    lora.merge()
    with pytest.raises(ValueError, match="is merged"):
        Repair("lora", lora.layers, *both)
