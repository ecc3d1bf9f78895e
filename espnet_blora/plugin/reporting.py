"""ESPnet's progress lines and curves without statistics that were not due in their window.

Quantiles and the like come every `log_every` steps. In the steps between, ESPnet fills in
(nan, weight 0), and would print and plot nan for a window that holds nothing else, which reads as
a training that has diverged. Here such a statistic is left out of that window; a value that was
reported, be it nan, always shows.
"""

import functools
import inspect
from collections.abc import Callable

METHODS = ("log_message", "tensorboard_add_scalar", "wandb_log")


def only_due(method: Callable) -> Callable:
    """Wrap a method of ESPnet's `SubReporter` that shows the steps from `start` to `end`."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    def wrapped(self, *args, **kwargs):
        given = signature.bind(self, *args, **kwargs).arguments
        window = slice(given.get("start"), given.get("end"))
        stats = self.stats
        self.stats = {
            name: values
            for name, values in stats.items()
            if any(getattr(value, "weight", 1) != 0 for value in values[window])
        }
        try:
            return method(self, *args, **kwargs)
        finally:
            self.stats = stats

    return wrapped


def leave_out_what_is_not_due() -> None:
    """Wrap the three methods in place; called once, by `plug_in`."""
    from espnet2.train.reporter import SubReporter

    for name in METHODS:
        setattr(SubReporter, name, only_due(getattr(SubReporter, name)))
