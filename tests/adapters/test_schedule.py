import pytest

from espnet_blora.adapters.registry import parse_config
from espnet_blora.adapters.schedule import beta_at


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
