"""The diagonal Fisher information: closed forms of small models, and the file."""

import json
import stat

import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file
from torch import nn

from espnet_blora.adapters.fisher import METADATA_KEY, Fisher, diagonal_fisher, read_fisher
from espnet_blora.adapters.fisher import save_fisher as save


@pytest.fixture
def softmax():
    """A softmax over 4 classes of 3 features, utterances of several tokens, and their nll."""
    torch.manual_seed(0)
    linear = nn.Linear(3, 4).double().requires_grad_(False)
    utterances = [
        (torch.randn(length, 3).double(), torch.randint(4, (length,))) for length in (1, 5, 2)
    ]

    def nll(utterance):
        x, y = utterance
        return nn.functional.cross_entropy(linear(x), y, reduction="sum"), len(y)

    return linear, utterances, nll


def test_it_is_the_squared_gradient_of_each_utterance_per_token(softmax):
    linear, utterances, nll = softmax
    estimate = diagonal_fisher({"w": linear.weight}, utterances, nll)
    expected_sum = torch.zeros(4, 3).double()
    for x, y in utterances:  # d nll / d W = (p - onehot)^T x, by hand
        gap = linear(x).softmax(-1) - nn.functional.one_hot(y, 4)
        expected_sum += (gap.T @ x).square()
    torch.testing.assert_close(estimate.values["w"].double(), expected_sum / 8, rtol=1e-6, atol=0)
    assert estimate[1:] == (3, 8) and estimate.values["w"].dtype == torch.float32
    assert not linear.weight.requires_grad and linear.weight.grad is None


def test_with_tokens_of_the_model_it_is_the_curvature_of_the_kl(softmax):
    """sum F d^2 / 2 is KL(base || moved) per token, for a move along one weight."""
    linear, _, _ = softmax
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 3).double()

    def nll(_):
        logits = linear(x)
        drawn = torch.multinomial(logits.detach().softmax(-1), 2, True, generator=generator)[0]
        return nn.functional.cross_entropy(logits.expand(2, -1), drawn, reduction="sum"), 2

    fisher = diagonal_fisher({"w": linear.weight}, range(4000), nll).values["w"]
    before = linear(x).log_softmax(-1)
    moved = linear.weight.clone()
    moved[2, 1] += 1e-2
    after = (x @ moved.T + linear.bias).log_softmax(-1)
    kl = (before.exp() * (before - after)).sum()
    torch.testing.assert_close(0.5e-4 * fisher[2, 1].double(), kl, rtol=0.1, atol=0)


def test_what_cannot_be_estimated_is_refused(softmax):
    linear, utterances, nll = softmax
    with pytest.raises(ValueError, match="0 utterances with 0 tokens"):
        diagonal_fisher({"w": linear.weight}, [], nll)
    unused = nn.Linear(2, 2).requires_grad_(False)
    both = {"w": linear.weight, "head.w": unused.weight}
    with pytest.raises(ValueError, match=r"head\.w is not used by the likelihood"):
        diagonal_fisher(both, utterances, nll)
    assert not unused.weight.requires_grad and not linear.weight.requires_grad
    bad = [utterances[0], (utterances[1][0] * float("nan"), utterances[1][1])]
    with pytest.raises(ValueError, match="utterance 2: its log likelihood is nan"):
        diagonal_fisher({"w": linear.weight}, bad, nll)


@pytest.fixture
def base():
    torch.manual_seed(0)
    return {"a.weight": torch.randn(3, 4), "b.weight": torch.randn(2, 3)}


def test_the_file(base, tmp_path):
    values = {name: torch.rand(weight.shape) for name, weight in base.items()}
    path = tmp_path / "fisher"
    size = save(path, Fisher(values, 7, 90), base, {"sets": ["old"], "labels": "text"})
    assert path.stat().st_size == size and [p.name for p in tmp_path.iterdir()] == ["fisher"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o444
    estimate = read_fisher(path, base, {"b.weight": base["b.weight"]})
    assert list(estimate) == ["b.weight"] and torch.equal(estimate["b.weight"], values["b.weight"])
    with safe_open(path, framework="pt") as file:
        description = json.loads(file.metadata()[METADATA_KEY])
    assert (description["utterances"], description["tokens"]) == (7, 90)
    assert description["about"] == {"sets": ["old"], "labels": "text"}
    save(path, Fisher(values, 7, 90), base, {}, torch.bfloat16)
    estimate = read_fisher(path, base, base)
    assert {value.dtype for value in estimate.values()} == {torch.bfloat16}
    torch.testing.assert_close(estimate["a.weight"].float(), values["a.weight"], rtol=8e-3, atol=0)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.full((3, 4), -1.0), "holds NaN, inf or a negative number"),
        (torch.full((3, 4), torch.nan), "holds NaN, inf or a negative number"),
        (torch.ones(4, 3), r"has shape \(4, 3\), the weight \(3, 4\)"),
    ],
)
def test_values_that_cannot_be_are_refused(base, tmp_path, value, message):
    values = {"a.weight": value}
    save(tmp_path / "fisher", Fisher(values, 1, 1), base, {})
    with pytest.raises(ValueError, match=rf"fisher: a\.weight {message}.*; make it with"):
        read_fisher(tmp_path / "fisher", base, {"a.weight": base["a.weight"]})


def test_another_format_is_named(base, tmp_path):
    path = tmp_path / "fisher"
    save(path, Fisher(base, 1, 1), base, {})
    metadata = {METADATA_KEY: json.dumps({"format": 2})}
    save_file(load_file(path), path, metadata=metadata)
    with pytest.raises(ValueError, match="has format 2, this version of espnet_blora reads 1"):
        read_fisher(path, base, base)
