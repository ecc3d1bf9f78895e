"""NewBob: a lower learning rate after an epoch that made the validation loss little better."""

from __future__ import annotations

from typing import Any

import torch
from espnet2.schedulers.abs_scheduler import AbsValEpochStepScheduler


class NewBob(AbsValEpochStepScheduler):
    """ESPnet scheduler `newbob`, stepped once per epoch with `val_scheduler_criterion`.

    With v the validation loss of this epoch and u that of the epoch before, all learning rates are
    multiplied by `annealing_factor` when (u - v) / |u| < `improvement_threshold`, unless one of
    `patience` such epochs is still to be spent; NaN is no improvement. The defaults are those of
    CL-MASR and DAMA (arXiv 2602.01008, appendix B.3).

    Source: the schedule of ICSI's QuickNet, as SpeechBrain's `NewBobScheduler` has it.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        improvement_threshold: float = 0.0025,
        annealing_factor: float = 0.8,
        patience: int = 0,
    ):
        """Take what to step.

        Raises:
            ValueError: A factor outside 0 to 1, a threshold that is not one, or a patience < 0.
        """
        if not 0 < annealing_factor <= 1:
            raise ValueError(
                f"scheduler_conf.annealing_factor: {annealing_factor}; allowed: above 0, up to 1"
            )
        if not -1 <= improvement_threshold <= 1:
            raise ValueError(
                f"scheduler_conf.improvement_threshold: {improvement_threshold}; allowed: a share "
                "of the loss, -1 to 1, such as 0.0025"
            )
        if patience < 0:
            raise ValueError(f"scheduler_conf.patience: {patience}; allowed: 0 or more epochs")
        self.optimizer = optimizer
        self.improvement_threshold = improvement_threshold
        self.annealing_factor = annealing_factor
        self.patience = patience
        self.left = patience
        self.previous: float | None = None

    def step(self, val: float, epoch: int | None = None) -> None:
        """Judge the epoch that ended with validation loss `val`."""
        # The loss of the epoch before; the first epoch has none.
        before, self.previous = self.previous, float(val)
        if before is None:
            return
        gain = (before - self.previous) / abs(before) if before else 0.0
        if gain >= self.improvement_threshold:
            return
        if self.left > 0:
            self.left -= 1
            return
        self.left = self.patience
        for group in self.optimizer.param_groups:
            group["lr"] *= self.annealing_factor

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs; the rates themselves are the optimiser's."""
        return {"previous": self.previous, "left": self.left}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.previous, self.left = state["previous"], state["left"]
