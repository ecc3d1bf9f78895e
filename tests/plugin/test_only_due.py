"""Statistics that come every N steps: no nan in between; pictures cope, and come at the end."""

import math
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from espnet2.train.reporter import Reporter

from espnet_blora import plugin
from espnet_blora.plugin import wrappers

WEIGHT = np.array([2.0])


@pytest.fixture(autouse=True, scope="module")
def plugged_in():
    plugin.register()


def steps(reporter, losses, sigmas):
    """One epoch: a loss at every step, a sigma where there is one."""
    with reporter.observe("train", reporter.epoch + 1) as part:
        for loss, sigma in zip(losses, sigmas, strict=True):
            stats = {"loss": loss} if sigma is None else {"loss": loss, "sigma": sigma}
            part.register(stats, WEIGHT)
            part.register({"train_time": 0.1})
            part.next()
        yield part


def shown(part, start):
    scalars = {}
    writer = SimpleNamespace(add_scalar=lambda name, value, step: scalars.update({name: value}))
    part.tensorboard_add_scalar(writer, start)
    return part.log_message(start), scalars


def test_what_was_not_due_is_left_out_of_its_window_only():
    for part in steps(Reporter(), [1.0, 2.0, 3.0, 4.0], [0.5, None, None, None]):
        line, scalars = shown(part, -2)
        assert "loss=3.5" in line and "train_time=0.1" in line
        assert "sigma" not in line and "nan" not in line
        assert scalars.keys() == {"loss", "train_time"} and scalars["loss"] == 3.5
        line, scalars = shown(part, -4)
        assert "sigma=0.5" in line and scalars["sigma"] == 0.5
        assert set(part.stats) == {"loss", "sigma", "train_time"}  # nothing is lost for the epoch


def test_a_loss_that_is_nan_is_shown():
    part = next(steps(Reporter(), [1.0, math.nan, math.nan], [0.5, None, None]))
    with pytest.warns(UserWarning, match="No valid stats"):
        line, scalars = shown(part, -2)
    assert "loss=nan" in line and math.isnan(scalars["loss"])


def test_epochs_without_a_statistic_are_gaps_in_the_picture(tmp_path):
    reporter = Reporter()
    for sigma in (0.5, None, 0.7):
        for _ in steps(reporter, [1.0], [sigma]):
            pass
        reporter.matplotlib_plot(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"loss.png", "sigma.png", "train_time.png"}
    drawn = reporter._plot_stats(["train"], "sigma").gca().lines[0]
    np.testing.assert_array_equal(drawn.get_ydata(), [0.5, np.nan, 0.7])


@pytest.mark.parametrize("stopped", [False, True])
def test_a_training_draws_its_curves_once_also_when_it_is_stopped(tmp_path, stopped):
    reporter, seen = Reporter(), []

    def run(cls, **_):
        for loss in (1.0, 2.0):
            for _ in steps(reporter, [loss], [None]):
                pass
            reporter.matplotlib_plot(tmp_path / "images")
            seen.append(list(tmp_path.iterdir()))
        if stopped:
            raise KeyboardInterrupt

    options = SimpleNamespace(
        model=torch.nn.Linear(1, 1),
        trainer_options=SimpleNamespace(resume=False, save_strategy="all"),
        distributed_option=SimpleNamespace(distributed=True, dist_rank=1),
    )
    with pytest.raises(KeyboardInterrupt) if stopped else nullcontext():
        wrappers.trainer_run(run)(type(None), **vars(options))
    assert seen == [[], []]
    assert {p.name for p in (tmp_path / "images").iterdir()} == {"loss.png", "train_time.png"}
