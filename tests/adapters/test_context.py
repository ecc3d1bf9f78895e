import torch

from espnet_blora.adapters.context import Context, mix, noise_generator, sample_seeds, seeded

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
    monkeypatch.setattr("espnet_blora.adapters.context.processes", lambda: (1, 2))
    assert first(Context(1, 2)) != alone


def test_a_draw_depends_on_its_numbers_only():
    values = [float(torch.rand((), generator=seeded(CPU, 5, index))) for index in (0, 1, 0)]
    assert values[0] == values[2] != values[1]


def test_the_first_samples_of_more_are_those_of_fewer():
    assert sample_seeds(3, 4) == sample_seeds(3, 9)[:4]
    assert len({*sample_seeds(3, 4), *sample_seeds(4, 4)}) == 8


def test_mix_gives_63_bits():
    seeds = [mix(0, 0, 0, i) for i in range(200)]
    assert len(set(seeds)) == 200 and all(0 <= s < 2**63 for s in seeds)
    assert max(seeds) > 2**60


def test_no_generator_on_meta():
    assert noise_generator(Context(), 0, torch.device("meta")) is None
    assert seeded(torch.device("meta"), 1) is None
