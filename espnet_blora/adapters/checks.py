"""Checks of values that a user gives: each error names the key, the value and what is allowed."""

import math
from collections.abc import Collection, Mapping
from numbers import Integral
from typing import Any

from espnet_blora.utils.mistakes import did_you_mean

_YAML_HINT = " (this is text; YAML reads 1e-2 as text, write 0.01 or 1.0e-2)"
_OF_PEFT = {"r": "rank", "lora_alpha": "alpha", "lora_dropout": "dropout_rate"}


def reject_unknown(where: str, conf: Mapping, known: Collection[str]) -> None:
    """Refuse keys that do not exist.

    Raises:
        ValueError: `conf` has a key outside `known`; names near misses.
    """
    unknown = [str(key) for key in conf if key not in known]
    if unknown:
        keys = ", ".join(f"{k!r}{did_you_mean(_OF_PEFT.get(k, k), known)}" for k in unknown)
        raise ValueError(f"{where}: unknown key {keys}; allowed: {', '.join(sorted(known))}")


def one_of(where: str, key: str, value: Any, allowed: Collection[str]) -> str:
    """Return `value` if it is one of `allowed`.

    Raises:
        ValueError: It is not.
    """
    if isinstance(value, str) and value in allowed:
        return value
    raise ValueError(f"{where}: {key} is {value!r}; allowed: {', '.join(sorted(allowed))}")


def number(
    where: str,
    key: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """Return `value` as a float.

    Args:
        where: What the key belongs to, for the message.
        key: Name of the value.
        value: What the user has given.
        low: The smallest value that is allowed.
        high: The largest value that is allowed.
        open_low: Whether `low` itself is not allowed.
        open_high: Whether `high` itself is not allowed.

    Raises:
        ValueError: `value` is not a finite number in this range.
    """
    allowed = f"a number {'>' if open_low else '>='} {low:g}" if low > -math.inf else "a number"
    if high < math.inf:
        allowed += f" and {'<' if open_high else '<='} {high:g}"
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        hint = _YAML_HINT if isinstance(value, str) else ""
        raise ValueError(f"{where}: {key} is {value!r}{hint}; allowed: {allowed}")
    too_low = value <= low if open_low else value < low
    too_high = value >= high if open_high else value > high
    if too_low or too_high:
        raise ValueError(f"{where}: {key} is {value!r}; allowed: {allowed}")
    return float(value)


def integer(where: str, key: str, value: Any, low: int, high: int = 2**63 - 1) -> int:
    """Return `value` as an int if it is a whole number from `low` to `high`.

    Raises:
        ValueError: It is not.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not low <= int(value) <= high:
        hint = " (this is text: write it without quotes)" if isinstance(value, str) else ""
        most = f" and <= {high}" if whole and int(value) > high else ""
        allowed = f"a whole number >= {low}{most}"
        raise ValueError(f"{where}: {key} is {value!r}{hint}; allowed: {allowed}")
    return int(value)


def flag(where: str, key: str, value: Any) -> bool:
    """Return `value` if it is a bool.

    Raises:
        ValueError: It is not.
    """
    if isinstance(value, bool):
        return value
    raise ValueError(f"{where}: {key} is {value!r}; allowed: true or false")


def written_file(where: str, key: str, value: Any, program: str) -> str:
    """Return the path `value` of a file that `espnet-blora program` writes from old data.

    Raises:
        ValueError: It is not a path.
    """
    if isinstance(value, str) and value:
        return value
    raise ValueError(
        f"{where}: {key} is {value!r}; allowed: the path of a file that espnet-blora {program} "
        "has written from the base and old data"
    )


def names(where: str, key: str, value: Any) -> tuple[str, ...]:
    """Return the list of module names `value` as a tuple.

    Raises:
        ValueError: It is not a non-empty list of different module names.
    """
    allowed = 'a non-empty list of module names, such as ["query", "value"]'
    if isinstance(value, str) or not isinstance(value, (list, tuple)) or not value:
        raise ValueError(f"{where}: {key} is {value!r}; allowed: {allowed}")
    for item in value:
        if not isinstance(item, str) or not item or not all(item.split(".")):
            raise ValueError(f"{where}: {key} holds {item!r}; allowed: {allowed}")
    if len(set(value)) != len(value):
        raise ValueError(f"{where}: {key} names a module twice: {list(value)}; allowed: {allowed}")
    return tuple(value)
