"""NewBob's rule, epoch by epoch, and a resume in its middle."""

import pytest
import torch
from espnet2.schedulers.abs_scheduler import AbsValEpochStepScheduler

from espnet_blora.plugin.newbob import NewBob


def optimizer():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (1.0, 0.1)]
    return torch.optim.AdamW(groups)


def rates(scheduler, losses):
    """The first group's rate after each epoch."""
    found = []
    for loss in losses:
        scheduler.step(loss)
        found.append(scheduler.optimizer.param_groups[0]["lr"])
    return found


def test_the_rate_falls_when_the_loss_gets_better_by_less_than_the_threshold():
    scheduler = NewBob(optimizer())
    assert isinstance(scheduler, AbsValEpochStepScheduler)  # what the trainer asks
    # first epoch; better by 1 %; by 0.2 %; worse; better than the last, though not than the best
    losses = [2.0, 1.98, 1.976, 2.1, 2.0]
    assert rates(scheduler, losses) == pytest.approx([1.0, 1.0, 0.8, 0.64, 0.64])
    assert scheduler.optimizer.param_groups[1]["lr"] == pytest.approx(0.064)


def test_exactly_the_threshold_is_enough():
    scheduler = NewBob(optimizer(), improvement_threshold=0.25, annealing_factor=0.5)
    assert rates(scheduler, [4.0, 3.0, 2.26]) == [1.0, 1.0, 0.5]


def test_patience_is_spent_first():
    scheduler = NewBob(optimizer(), patience=2)
    assert rates(scheduler, [1.0] * 7) == pytest.approx([1, 1, 1, 0.8, 0.8, 0.8, 0.64])


@pytest.mark.parametrize("losses", [[1.0, float("nan")], [0.0, 0.0], [-1.0, -1.0]])
def test_odd_losses_are_no_improvement(losses):
    assert rates(NewBob(optimizer()), losses) == pytest.approx([1.0, 0.8])


def test_a_negative_loss_that_falls_is_better():
    assert rates(NewBob(optimizer()), [-1.0, -1.1]) == [1.0, 1.0]


def test_a_resume_goes_on_as_if_nothing_had_been():
    losses = [1.0, 0.9, 0.9, 0.9, 0.8, 0.8]
    whole = rates(NewBob(optimizer(), patience=1), losses)
    first = NewBob(optimizer(), patience=1)
    before = rates(first, losses[:3])
    second = NewBob(optimizer(), patience=1)
    second.load_state_dict(first.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    assert before + rates(second, losses[3:]) == pytest.approx(whole)
    assert min(whole) < 1.0


@pytest.mark.parametrize(
    ("conf", "says"),
    [
        ({"annealing_factor": 0.0}, "annealing_factor: 0.0; allowed: above 0"),
        ({"annealing_factor": float("nan")}, "annealing_factor: nan; allowed"),
        ({"improvement_threshold": 25}, "improvement_threshold: 25; allowed: a share"),
        ({"patience": -1}, "patience: -1; allowed: 0 or more"),
    ],
)
def test_bad_options(conf, says):
    with pytest.raises(ValueError, match=f"scheduler_conf.{says}"):
        NewBob(optimizer(), **conf)
