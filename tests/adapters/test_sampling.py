import pytest
import torch
import torch.nn.functional as F

from espnet_blora.adapters.sampling import SAMPLERS, softplus_sigma


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


def correlation_of_two_positions(kind):
    _, mean, sigma = case()
    x = torch.ones(1, 2, 6, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    ys = torch.stack([SAMPLERS[kind](x, mean, sigma, generator) for _ in range(2000)])
    return float(torch.corrcoef(torch.stack([ys[:, 0, 0, 0], ys[:, 0, 1, 0]]))[0, 1])


def test_positions_share_noise_in_weight_sampling_only():
    assert correlation_of_two_positions("weight") > 0.999
    assert abs(correlation_of_two_positions("flipout")) < 0.1
    assert abs(correlation_of_two_positions("local")) < 0.1


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


@pytest.mark.parametrize("kind", SAMPLERS)
def test_half_precision_input_gives_finite_half_precision_output(kind):
    x, mean, sigma = (t.float() for t in case())
    y = SAMPLERS[kind](300.0 * x.half(), mean, sigma, torch.Generator())
    assert y.dtype == torch.float16 and torch.isfinite(y).all()
