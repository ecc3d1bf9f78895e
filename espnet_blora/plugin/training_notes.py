"""What the log says when a training starts: a warm-up that never ends, the share of each GPU."""

import logging
from collections.abc import Iterable
from typing import Any

log = logging.getLogger(__name__)

PER_UTTERANCES = ("unsorted", "sorted", "folded")
"""Values of `batch_type` for which `batch_size` counts (`folded`: at most so many utterances)."""


def warn_of_long_warmup(train_iter_factory: Any, options: Any, schedulers: Iterable[Any]) -> None:
    """Warn where the learning rate does not get to its peak within the whole training.

    Args:
        train_iter_factory: ESPnet's; one that knows its batches has a sampler.
        options: Of the trainer, with `max_epoch` and `accum_grad`.
        schedulers: Of the optimisers.
    """
    sampler = getattr(train_iter_factory, "sampler", None)
    if sampler is None:
        return
    batches = train_iter_factory.num_iters_per_epoch or len(sampler)
    updates = options.max_epoch * (batches // options.accum_grad)
    for scheduler in schedulers:
        steps = getattr(scheduler, "warmup_steps", 0)
        if steps > updates:
            log.warning(
                "scheduler_conf.warmup_steps: %d, but the whole training has %d updates (max_epoch "
                "x batches / accum_grad): the learning rate never reaches optim_conf.lr. Lower "
                "warmup_steps (a tenth of the updates is %d), or train for more epochs",
                steps,
                updates,
                max(1, updates // 10),
            )


def say_shares(batch_type: str, batch_size: int, processes: int) -> None:
    """Log what part of a batch each of several processes (one per GPU) gets."""
    if processes < 2 or batch_type not in PER_UTTERANCES:
        return
    least, more = divmod(batch_size, processes)
    log.info(
        "batch_size: %d is shared out over %d processes: %s utterances of a batch for each; "
        "batch_size: %d gives each as many as one GPU had",
        batch_size,
        processes,
        f"{least} to {least + 1}" if more else least,
        batch_size * processes,
    )
