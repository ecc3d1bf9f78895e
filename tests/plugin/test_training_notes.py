"""What the log says when a training starts."""

from argparse import Namespace

import pytest

from espnet_blora.plugin import training_notes
from tests.plugin.tiny import BLORA, TRAIN, shared


@pytest.fixture(scope="session")
def experiment(tmp_path_factory):
    return shared(tmp_path_factory)


def test_a_warmup_longer_than_the_training_is_told_once_with_both_numbers(experiment, caplog):
    """8 utterances in batches of 2, accum_grad 2, 2 epochs: 4 updates."""
    for steps, count in ((4, 0), (5, 1)):
        caplog.clear()
        conf = {"scheduler": "warmuplr", "scheduler_conf": {"warmup_steps": steps}}
        experiment.train_here(f"warmup{steps}", **BLORA, **conf)
        told = [r for r in caplog.records if "warmup_steps: 5" in r.getMessage()]
        assert len(told) == count
    assert "4 updates" in told[0].getMessage() and told[0].levelname == "WARNING"
    assert TRAIN == 8


@pytest.mark.parametrize(
    ("iterations", "updates"),
    [
        (Namespace(sampler=range(10), num_iters_per_epoch=None), 6),
        (Namespace(sampler=range(10), num_iters_per_epoch=25), 18),
        (Namespace(), None),
    ],
)
def test_updates_are_counted_as_the_trainer_makes_them(iterations, updates, caplog):
    options, steps = Namespace(max_epoch=3, accum_grad=4), updates or 0
    schedulers = [Namespace(), Namespace(warmup_steps=steps), Namespace(warmup_steps=steps + 1)]
    training_notes.warn_of_long_warmup(iterations, options, schedulers)
    assert [r.args[:2] for r in caplog.records] == [(steps + 1, updates)] * (updates is not None)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("sorted", 16, 8), ["batch_size: 16", "8 processes", " 2 utterances", "batch_size: 128"]),
        (("folded", 10, 4), ["batch_size: 10", "4 processes", " 2 to 3 utterances"]),
        (("sorted", 16, 1), []),
        (("numel", 16, 8), []),
    ],
)
def test_the_share_of_each_gpu(given, words, caplog):
    caplog.set_level("INFO")
    training_notes.say_shares(*given)
    assert bool(caplog.text) == bool(words)
    assert all(word in caplog.text for word in words)
