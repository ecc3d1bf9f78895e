"""The adapter methods this package knows: their options and their layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from espnet_blora.adapters import checks
from espnet_blora.adapters.blora import BloraLayer
from espnet_blora.adapters.config import BloraConfig, LoraConfig
from espnet_blora.adapters.layer import AdapterLayer
from espnet_blora.adapters.lora import LoraLayer


@dataclass(frozen=True)
class Method:
    """One adapter method: its checked options and the layer put on each target."""

    config: type[LoraConfig]
    layer: type[AdapterLayer]


METHODS: dict[str, Method] = {
    "lora": Method(LoraConfig, LoraLayer),
    "blora": Method(BloraConfig, BloraLayer),
}


def parse_config(method: str, conf: Mapping[str, Any]) -> LoraConfig:
    """Return the checked options of `method`.

    Raises ValueError for an unknown method or key (naming near misses) and for a bad value.
    """
    if method not in METHODS:
        near = checks.near_misses(str(method), METHODS)
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        raise ValueError(f"adapter {method!r} is unknown{hint}; known: {', '.join(METHODS)}")
    if not isinstance(conf, Mapping):
        raise ValueError(f"adapter_conf is {conf!r}; allowed: a mapping of option to value")
    return METHODS[method].config.parse(conf)


def factor_names() -> frozenset[str]:
    """Return the last components of all keys that an adapter layer may add to a state dict."""
    return frozenset(name for m in METHODS.values() for name in m.layer.parameter_names)
