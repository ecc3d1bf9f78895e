"""What the log says when a training starts."""

from argparse import Namespace
from collections import Counter

import numpy as np
import pytest

from espnet_blora.decoding.training_config import read_training_config
from espnet_blora.plugin import training_notes
from espnet_blora.utils.keyed import read_keyed
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


def test_what_was_trained_on_stands_in_config_yaml(experiment):
    """As transcribe reads it; and a resume does not take it for a change."""
    folder = experiment.train_here("described", max_epoch=1, **BLORA)
    config = read_training_config(folder / "config.yaml")
    samples = [int(n) for n in read_keyed(experiment.train / "speech_shape").values()]
    assert config.lengths.longest == pytest.approx(max(samples) / 16000, abs=1e-3)
    assert config.lengths.median == pytest.approx(np.median(samples) / 16000, abs=1e-3)
    languages = Counter(read_keyed(experiment.train / "utt2lang").values())
    assert config.values["training_data"]["languages"] == languages and len(languages) == 2
    assert set(config.languages) == set(languages) and config.language is None
    text = (folder / "config.yaml").read_text(encoding="utf-8")
    (folder / "config.yaml").write_text(text.replace("longest: 0", "longest: 1"), encoding="utf-8")
    experiment.train_here("described", max_epoch=2, **BLORA)
    assert read_training_config(folder / "config.yaml").lengths == config.lengths


@pytest.mark.parametrize("line", [None, "", "a 120,80"])
def test_lengths_that_are_none_of_waves_are_not_told(tmp_path, line):
    shapes = tmp_path / "speech_shape"
    if line is not None:
        shapes.write_text(f"{line}\n" * bool(line))
    options = Namespace(train_shape_file=[str(shapes)], train_data_path_and_name_and_type=[])
    assert training_notes.describe_data(options) is None


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
