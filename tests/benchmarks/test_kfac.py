"""K-FAC's curvature and its penalty, against sums by hand, Hessians and explicit matrices."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks.keeping.kfac import Curvature, curvatures, penalty
from espnet_blora import add_adapter


@pytest.fixture
def model():
    """Two Linears of unequal widths with a tanh between them, in float64, frozen."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4)).double().requires_grad_(False)


def nll_of(model):
    """Return an utterance of features (1, L, 3) and classes (L,) -> its nll, and L."""
    return lambda u: (cross_entropy(model(u[0])[0], u[1], reduction="sum"), len(u[1]))


def linears_of(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}


def test_the_curvature_is_the_sum_over_positions_of_two_utterances(model):
    """By hand: the gradient at each Linear's output, position by position."""
    utterances = [(torch.randn(1, n, 3).double(), torch.randint(4, (n,))) for n in (2, 3)]
    found = curvatures(linears_of(model), utterances, nll_of(model))
    expected = {
        "0": [torch.zeros(3, 3), torch.zeros(5, 5)],
        "2": [torch.zeros(5, 5), torch.zeros(4, 4)],
    }
    for features, classes in utterances:
        for x, y in zip(features[0], classes, strict=True):
            hidden = model[0](x).tanh()
            last = model[2](hidden).softmax(-1) - nn.functional.one_hot(y, 4)
            first = (model[2].weight.T @ last) * (1 - hidden**2)
            for name, given, g in (("0", x, first), ("2", hidden, last)):
                expected[name][0] = expected[name][0] + torch.outer(given, given) / 5
                expected[name][1] = expected[name][1] + torch.outer(g, g) / 5
    for name, both in expected.items():
        for one, other in zip(found[name], both, strict=True):
            torch.testing.assert_close(one, other.float())
    assert not any(p.requires_grad for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_g_is_per_token_and_a_per_position(model):
    """As in an encoder, which has more positions than there are tokens."""
    features = torch.randn(1, 6, 3).double()
    nll = lambda y: (cross_entropy(model(features).mean(1), torch.tensor([y])), 1)  # noqa: E731
    found = curvatures(linears_of(model), [0, 3], nll)["2"]
    hidden = model[0](features[0]).tanh()  # (6, 5)
    torch.testing.assert_close(found.inputs, (hidden.T @ hidden / 6).float())
    p = model[2](hidden).mean(0).softmax(-1)
    gaps = [(p - nn.functional.one_hot(torch.tensor(y), 4)) / 6 for y in (0, 3)]
    outer = (
        sum(6 * torch.outer(g, g) for g in gaps) / 2
    )  # six positions of two utterances, a token each
    torch.testing.assert_close(found.outputs, outer.float())


def test_the_penalty_is_the_loss_to_second_order_where_inputs_never_change():
    """Classes in the proportions that the model gives them: the curvature is the Hessian."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 3, bias=False)).double().requires_grad_(False)
    x = torch.randn(1, 1, 3).double()
    log_p = torch.tensor([0.5, 0.25, 0.25]).double().log()
    model[0].weight.copy_(torch.outer(log_p, x[0, 0]) / x.square().sum())
    classes = torch.tensor([0, 0, 1, 2])
    known = curvatures(linears_of(model), [(x, classes[i, None]) for i in range(4)], nll_of(model))
    adapter = add_adapter(model, "lora", rank=2, target_modules=["0"])
    (layer,) = adapter.layers.values()
    with torch.no_grad():
        layer.lora_B.normal_()
    delta = layer.delta_weight().detach()

    def loss(t):
        logits = x[0] @ (model[0].weight + t * delta).T
        return cross_entropy(logits.expand(4, -1), classes)

    curvature = torch.autograd.functional.hessian(loss, torch.zeros((), dtype=torch.float64))
    torch.testing.assert_close(penalty(adapter.layers, known), curvature / 2, rtol=1e-5, atol=0)


@pytest.fixture
def adapted(model):
    """LoRA on both, with matrices of some other data."""
    adapter = add_adapter(model, "lora", rank=2, alpha=6, target_modules=["0", "2"])
    square = lambda d: (lambda m: m @ m.T)(torch.randn(d, d + 1).double())  # noqa: E731
    known = {
        name: Curvature(square(layer.in_features), square(layer.out_features))
        for name, layer in adapter.layers.items()
    }
    return adapter, known


def test_the_penalty_is_that_of_explicit_matrices(adapted):
    adapter, known = adapted
    assert penalty(adapter.layers, known) == 0  # lora_B is
    with torch.no_grad():
        for layer in adapter.layers.values():
            layer.lora_B.normal_()
    expected = 0.0
    for name, layer in adapter.layers.items():
        inputs, outputs = known[name]
        delta = layer.delta_weight()
        expected += 0.5 * torch.trace(outputs @ delta @ inputs @ delta.T)
        flat = delta.flatten()  # the same with the whole Fisher matrix, of (out, in)
        assert torch.allclose(
            flat @ torch.kron(outputs, inputs) @ flat,
            torch.trace(outputs @ delta @ inputs @ delta.T),
        )
    torch.testing.assert_close(penalty(adapter.layers, known), expected)


def test_gradients(adapted):
    adapter, known = adapted
    with torch.no_grad():
        for layer in adapter.layers.values():
            layer.lora_B.normal_()
    torch.autograd.gradcheck(
        lambda *_: penalty(adapter.layers, known), adapter.trainable_parameters()
    )
