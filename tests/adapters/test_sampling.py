import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from espnet_blora.adapters.sampling import SAMPLERS, _signs, softplus_sigma


def case(batch=2, time=3, d_in=6, d_out=4):
    generator = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return draw(batch, time, d_in), draw(d_out, d_in), draw(d_out, d_in).abs()


@pytest.mark.parametrize("kind", SAMPLERS)
def test_mean_and_variance_of_the_output(kind):
    """All samplings agree with x mean^T and x^2 (sigma^2)^T at every position."""
    x, mean, sigma = case()
    draws = 4000
    generator = torch.Generator().manual_seed(0)
    ys = torch.stack([SAMPLERS[kind](x, mean, sigma, generator) for _ in range(draws)])
    variance = F.linear(x.square(), sigma.square())
    error_of_mean = (ys.mean(0) - F.linear(x, mean)) / (variance / draws).sqrt()
    assert error_of_mean.abs().max() < 4.5
    assert torch.allclose(ys.var(0), variance, rtol=0.15)
    ratio = (ys.var(0) / variance).mean()
    assert abs(float(ratio) - 1.0) < 0.05


@pytest.mark.parametrize(
    ("kind", "in_an_utterance", "over_utterances"),
    [("weight", 1, 1), ("flipout", 0, 0), ("flipout_by_utterance", 1, 0), ("local", 0, 0)],
)
def test_what_shares_its_noise(kind, in_an_utterance, over_utterances):
    _, mean, sigma = case()
    x = torch.ones(3, 2, 6, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    ys = torch.stack([SAMPLERS[kind](x, mean, sigma, generator) for _ in range(2000)])
    noise = ys[..., 0].flatten(1).T  # (3 utterances * 2 positions, draws)
    expected = torch.full((6, 6), float(over_utterances), dtype=torch.float64)
    for place in (0, 2, 4):
        expected[place : place + 2, place : place + 2] = in_an_utterance
    assert torch.allclose(torch.corrcoef(noise), expected.fill_diagonal_(1), atol=0.1)


def test_the_weight_of_an_utterance_is_that_of_its_positions():
    """Outputs of one utterance are x W^T of one W, whose deviations differ in sign alone."""
    _, mean, sigma = case()
    x = torch.eye(6, dtype=torch.float64).repeat(5, 1, 1)  # (5 utterances, 6 positions, d_in)
    ys = SAMPLERS["flipout_by_utterance"](x, mean, sigma, torch.Generator().manual_seed(0))
    noise = ys.mT - mean  # (5, d_out, d_in)
    assert torch.allclose(noise.abs(), noise[0].abs().expand_as(noise))
    ranks = [int(torch.linalg.matrix_rank((other / noise[0]).round())) for other in noise[1:]]
    assert ranks == [1, 1, 1, 1]  # the signs of an utterance are an outer product


def test_signs_are_fair_and_independent():
    """64 signs come out of one random word: none of them may follow from another."""
    n = 2**18
    signs = _signs((n // 2, 2), torch.empty(0), torch.Generator().manual_seed(0)).flatten()
    assert signs.abs().eq(1).all()
    assert abs(float(signs.mean())) < 4.5 / n**0.5
    by_place = signs.view(-1, 64)  # (words, places in a word)
    assert by_place.mean(0).abs().max() < 4.5 / len(by_place) ** 0.5
    products = by_place.T @ by_place / len(by_place)
    assert products.fill_diagonal_(0).abs().max() < 5 / len(by_place) ** 0.5
    lags = torch.stack([(signs[lag:] * signs[:-lag]).mean() for lag in range(1, 200)])
    assert lags.abs().max() < 4.5 / n**0.5
    assert _signs((7, 3), torch.empty(0), None).shape == (7, 3)  # no whole number of words


class Kernels(TorchDispatchMode):
    """Names of the operations that run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["flipout", "flipout_by_utterance"])
def test_signs_are_copied_in_rows_of_eight(kind):
    """One by one, they take five times as long: 7 % of a step of flipout."""
    with Kernels() as ran:
        SAMPLERS[kind](*case(), torch.Generator().manual_seed(0))
    assert ran.names.count("index_select") == 2 and "index" not in ran.names


def test_flipout_shares_one_eps():
    """Up to its sign, the noise of equal inputs to a one-element layer is one number."""
    x = torch.ones(1, 50, 1, dtype=torch.float64)
    one = torch.ones(1, 1, dtype=torch.float64)
    y = SAMPLERS["flipout"](x, 0 * one, one, torch.Generator().manual_seed(0))
    assert torch.allclose(y.abs(), y.abs().mean()) and y.min() < 0 < y.max()


@pytest.mark.parametrize("kind", SAMPLERS)
def test_gradients(kind):
    x, mean, sigma = (t.requires_grad_() for t in case())

    def run(*args):
        return SAMPLERS[kind](*args, torch.Generator().manual_seed(0))

    assert torch.autograd.gradcheck(run, (x, mean, sigma))


def test_local_has_finite_gradients_at_silence():
    x, mean, sigma = (t.requires_grad_() for t in case())
    silent = torch.zeros_like(x, requires_grad=True)
    SAMPLERS["local"](silent, mean, sigma, torch.Generator()).sum().backward()
    for tensor in (silent, mean, sigma):
        assert torch.isfinite(tensor.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_sigma_is_always_positive(dtype):
    rho = torch.tensor([-60000.0, -200.0, -50.0, 0.0, 30.0], dtype=dtype)
    sigma = softplus_sigma(rho)
    assert (sigma > 0).all() and sigma.dtype in (torch.float32, torch.float64)
    assert float(sigma[3]) == pytest.approx(0.6931472)


def test_the_floor_of_sigma_has_no_backward_pass():
    rho = torch.tensor([-200.0, -5.0], requires_grad=True)
    sigma = softplus_sigma(rho)
    assert sigma.grad_fn.name() == "SoftplusBackward0"
    sigma.sum().backward()
    assert float(sigma[0].detach()) == torch.finfo(torch.float32).tiny
    assert rho.grad.tolist() == pytest.approx([0.0, 1 / (1 + math.exp(5.0))])


@pytest.mark.parametrize("kind", SAMPLERS)
def test_half_precision_input_gives_finite_half_precision_output(kind):
    x, mean, sigma = (t.float() for t in case())
    y = SAMPLERS[kind](300.0 * x.half(), mean, sigma, torch.Generator())
    assert y.dtype == torch.float16 and torch.isfinite(y).all()
