"""What every adapter layer keeps: the base Linear as it was, and one place that forms the update.

A layer is the model's own nn.Linear (or subclass) object with its class extended in place:
`weight` and `bias` keep their names, other references to the module stay valid, and the base
forward is the one of its own class, so a Linear that casts its weight goes on casting.
"""

import functools

import torch
from torch import Tensor, nn

from espnet_blora.adapters.context import Context


class AdapterLayer(nn.Linear):
    """A Linear with a low-rank update: y = base(x) + scaling * factor * update(x).

    x: (..., d_in); y: (..., d_out). The forward is always factored; nothing in here writes to
    `weight`. In merged state the sum W0 + delta is kept beside `weight` and used instead of it.
    """

    base_class: type[nn.Linear]
    parameter_names: tuple[str, ...] = ()

    rank: int
    scaling: float
    dropout_rate: float
    context: Context
    index: int
    merged_weight: Tensor | None

    def start(self, config, context: Context, index: int) -> None:
        """Turn the wrapped Linear into a fresh layer; subclasses add their factors."""
        self.rank = config.rank
        self.scaling = config.scaling
        self.dropout_rate = config.dropout_rate
        self.context = context
        self.index = index
        self.register_buffer("merged_weight", None, persistent=False)

    def update(self, x: Tensor) -> Tensor:
        """Return the unscaled update of the output, (..., d_in) -> (..., d_out)."""
        raise TypeError(f"{type(self).__name__} defines no update")

    def delta_weight(self) -> Tensor:
        """Return factor * scaling * (the mean update of the weight), (d_out, d_in).

        The only place that forms it: merging, export, statistics and plots all read it here.
        """
        raise TypeError(f"{type(self).__name__} defines no delta_weight")

    @property
    def merged(self) -> bool:
        """Whether the update is in the weight used by forward."""
        return self.merged_weight is not None

    def forward(self, x: Tensor) -> Tensor:
        """Return base(x) + scaling * factor * update(x), or the merged weight's output."""
        context = self.context
        if context.disabled:
            return super().forward(x)
        if self.merged_weight is not None:
            return self._merged_forward(x)
        base = super().forward(x)
        scale = self.scaling * context.factor
        if scale == 0.0:
            return base
        return torch.add(base, self.update(x).to(base.dtype), alpha=scale)

    def _merged_forward(self, x: Tensor) -> Tensor:
        if self.training or self.context.sample_seed is not None:
            raise ValueError(
                "the adapter is merged: neither training nor sampling sees its factors; "
                "call adapter.unmerge() first, or model.eval()"
            )
        # A view of this module under its base class that reads the merged weight: `weight` itself
        # is never touched, so two threads may run this at once.
        view = self.base_class.__new__(self.base_class)
        view.__dict__.update(self.__dict__)
        view.__dict__["_parameters"] = {"weight": self.merged_weight, "bias": self.bias}
        return self.base_class.forward(view, x)

    def _dropout(self, x: Tensor) -> Tensor:
        if self.training and self.dropout_rate > 0.0:
            return nn.functional.dropout(x, self.dropout_rate, training=True)
        return x

    def _mark(self) -> None:
        """Put back the flags that torch drops from copied parameters."""

    def _apply(self, fn, recurse: bool = True):
        result = super()._apply(fn, recurse)
        self._mark()
        return result

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self._mark()

    def __reduce__(self):
        layer_class = type(self).__mro__[1]
        return _empty_layer, (layer_class, self.base_class), self.__dict__

    def extra_repr(self) -> str:
        """Show rank and scaling in the model's repr."""
        return f"{super().extra_repr()}, rank={self.rank}, scaling={self.scaling:g}"


@functools.cache
def extended_class(layer_class: type[AdapterLayer], base_class: type[nn.Linear]) -> type:
    """Return the class of a `base_class` Linear that carries the adapter `layer_class`."""
    body = {"base_class": base_class, "__module__": layer_class.__module__}
    return type(layer_class.__name__, (layer_class, base_class), body)


def _empty_layer(layer_class: type[AdapterLayer], base_class: type[nn.Linear]) -> AdapterLayer:
    """Return an uninitialised layer for copy and pickle, which cannot name made-up classes."""
    cls = extended_class(layer_class, base_class)
    return cls.__new__(cls)


def extend(
    linear: nn.Linear, layer_class: type[AdapterLayer], config, context: Context, index: int
) -> AdapterLayer:
    """Turn `linear` itself into an adapter layer and return it."""
    linear.__class__ = extended_class(layer_class, type(linear))
    linear.start(config, context, index)
    return linear
