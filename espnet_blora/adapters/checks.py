"""Checks of user-given values: each error names the key, the value found and what is allowed."""

import difflib
import math
from collections.abc import Collection, Iterable, Mapping

_YAML_HINT = " (this is text; YAML reads 1e-2 as text, write 0.01 or 1.0e-2)"


def near_misses(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return the `count` known words most like `word`, best first."""
    return difflib.get_close_matches(word, sorted(set(known)), n=count, cutoff=0.5)


def reject_unknown(what: str, conf: Mapping, known: Collection[str]) -> None:
    """Raise ValueError when `conf` has a key outside `known`, naming near misses."""
    unknown = [str(key) for key in conf if key not in known]
    if not unknown:
        return
    parts = []
    for key in unknown:
        near = near_misses(key, known)
        parts.append(f"'{key}'" + (f" (did you mean {' or '.join(near)}?)" if near else ""))
    raise ValueError(f"{what}: unknown key {', '.join(parts)}; allowed: {', '.join(sorted(known))}")


def one_of(where: str, key: str, value, allowed: Collection[str]) -> str:
    """Return `value` if it is one of `allowed`, else raise ValueError."""
    if isinstance(value, str) and value in allowed:
        return value
    raise ValueError(f"{where}: {key} is {value!r}; allowed: {', '.join(sorted(allowed))}")


def number(
    where: str,
    key: str,
    value,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """Return `value` as a finite float inside the given range, else raise ValueError."""
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


def integer(where: str, key: str, value, low: int) -> int:
    """Return `value` as an int >= `low`, else raise ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        hint = _YAML_HINT if isinstance(value, str) else ""
        raise ValueError(f"{where}: {key} is {value!r}{hint}; allowed: a whole number >= {low}")
    return value


def flag(where: str, key: str, value) -> bool:
    """Return `value` if it is a bool, else raise ValueError."""
    if isinstance(value, bool):
        return value
    raise ValueError(f"{where}: {key} is {value!r}; allowed: true or false")


def names(where: str, key: str, value) -> tuple[str, ...]:
    """Return `value` as a non-empty tuple of distinct non-empty strings, else raise ValueError."""
    allowed = 'a non-empty list of module names, such as ["query", "value"]'
    if isinstance(value, str) or not isinstance(value, (list, tuple)) or not value:
        raise ValueError(f"{where}: {key} is {value!r}; allowed: {allowed}")
    for item in value:
        if not isinstance(item, str) or not item or not all(item.split(".")):
            raise ValueError(f"{where}: {key} holds {item!r}; allowed: {allowed}")
    if len(set(value)) != len(value):
        raise ValueError(f"{where}: {key} names a module twice: {list(value)}; allowed: {allowed}")
    return tuple(value)
