import torch

from espnet_blora.adapters.context import Context, mix, noise_generator

CPU = torch.device("cpu")


def first(context, index=0):
    return float(torch.rand((), generator=noise_generator(context, index, CPU)))


def test_noise_depends_on_seed_step_and_layer_only():
    values = {
        first(Context(seed=s, step=t), i) for s in range(3) for t in range(3) for i in range(3)
    }
    assert len(values) == 27
    assert first(Context(1, 2), 3) == first(Context(1, 2), 3)


def test_noise_depends_on_the_rank(monkeypatch):
    alone = first(Context(1, 2))
    monkeypatch.setattr("espnet_blora.adapters.context.rank_of_process", lambda: 1)
    assert first(Context(1, 2)) != alone


def test_a_sampling_seed_takes_the_place_of_step_and_rank(monkeypatch):
    before = first(Context(1, 2, sample_seed=5))
    monkeypatch.setattr("espnet_blora.adapters.context.rank_of_process", lambda: 1)
    assert first(Context(9, 7, sample_seed=5)) == before
    assert first(Context(1, 2, sample_seed=6)) != before


def test_mix_gives_63_bits():
    seeds = [mix(0, 0, 0, i) for i in range(200)]
    assert len(set(seeds)) == 200 and all(0 <= s < 2**63 for s in seeds)
    assert max(seeds) > 2**60


def test_no_generator_on_meta():
    assert noise_generator(Context(), 0, torch.device("meta")) is None
