"""The options that all adapter methods share, and the way in which options are checked."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Self

from torch import nn

from espnet_blora.adapters import checks

PER_LAYER = {"per_layer": True}
"""Metadata of a field that is not an option of the user: `plan` sets it, for one layer."""


def option(default: Any, check: Callable[..., Any], *, needed: bool = False, **limits: Any) -> Any:
    """Return a dataclass field that `check` (one of `checks`) takes, within these limits.

    Where the default is None, None is taken, too, unless a value is `needed`.
    """
    checked = {"check": functools.partial(check, **limits), "needed": needed}
    return field(default=default, metadata=checked)


@dataclass(frozen=True)
class AdapterConfig:
    """Options of every method (`adapter_conf` in the yaml).

    A subclass adds fields, each an `option` with its check; `__post_init__` checks what concerns
    several of them. Layers read `rank`, `scaling` and `dropout_rate`; `plan` may give each
    layer its own copy (`dataclasses.replace`), in which fields made with `metadata=PER_LAYER` may
    differ too.

    Attributes:
        target_modules: Ends of the names of the Linears that get the adapter, in whole dotted
            components: `query` matches `blocks.0.attn.query`, `attn.out` does not match
            `blocks.0.cross_attn.out`.
    """

    method: ClassVar[str] = ""
    # Options that a checkpoint must agree in: with another value it computes another function.
    structural: ClassVar[tuple[str, ...]] = ()

    target_modules: tuple[str, ...] = option(("query", "value"), checks.names)
    rank: int | None = field(default=None, metadata=PER_LAYER)
    dropout_rate: float = field(default=0.0, metadata=PER_LAYER)

    @classmethod
    def parse(cls, conf: Mapping[str, Any]) -> Self:
        """Return the options given as `adapter_conf`.

        Raises:
            ValueError: A key is unknown, or a value is bad.
        """
        checks.reject_unknown(f"adapter_conf of {cls.method}", conf, cls.options())
        return cls(**conf)

    @classmethod
    def options(cls) -> tuple[str, ...]:
        """Return the names of all options that a user can set."""
        return tuple(f.name for f in fields(cls) if "per_layer" not in f.metadata)

    def as_dict(self) -> dict[str, Any]:
        """Return the options as plain JSON values."""
        every = asdict(self)
        values = {key: every[key] for key in self.options()}
        return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}

    def scaling_at(self, rank: int) -> float:
        """Return what the update of a layer of this rank is multiplied by."""
        return 1.0

    @property
    def scaling(self) -> float:
        """`scaling_at` the rank of this configuration."""
        return self.scaling_at(self.rank or 0)

    def plan(self, model: nn.Module, linears: Mapping[str, nn.Linear]) -> dict[str, Self]:
        """Return {name: that layer's own options} of the target Linears, in their order.

        A Linear that is left out gets no adapter. Names and sizes are read, never weights.

        Raises:
            ValueError: The method finds no place for a layer; names the Linear.
        """
        return {name: self.of_linear(name, linear) for name, linear in linears.items()}

    def of_linear(self, name: str, linear: nn.Linear) -> Self:
        """Return the options of one target Linear.

        Raises:
            ValueError: They do not fit its sizes; names it.
        """
        return self

    @property
    def where(self) -> str:
        """How messages name these options."""
        return f"adapter_conf of {self.method}"

    def _set(self, key: str, value: Any) -> None:
        """Set a field while the frozen instance is being made."""
        object.__setattr__(self, key, value)

    def _check(self, check: Callable[..., Any], key: str, **limits: Any) -> None:
        """Replace the value of `key` by what `check` (one of `checks`) returns for it."""
        self._set(key, check(self.where, key, getattr(self, key), **limits))

    def __post_init__(self) -> None:
        for each in fields(self):
            given = getattr(self, each.name) is not None or each.default is not None
            if "check" in each.metadata and (given or each.metadata["needed"]):
                self._check(each.metadata["check"], each.name)
