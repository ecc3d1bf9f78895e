"""Lay yaml files over each other, and single settings over them: one training configuration."""

import argparse
import contextlib
import logging
import sys
from pathlib import Path

import yaml

from espnet_blora.utils import atomic

SHARED = Path(__file__).resolve().parents[1] / "recipes" / "conf"


def load(path: str | Path, within: tuple[Path, ...] = ()) -> dict:
    """Read one yaml file of keys and values, laid over the files that its key `include` names.

    `include: train.yaml` is looked for in espnet_blora/recipes/conf, which recipes share; with a
    slash (`./base.yaml`) from the file's own folder. `within`: the files that include it.

    Raises: FileNotFoundError; ValueError naming the file if it is no yaml, no mapping, or includes
        itself.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such configuration")
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: no yaml: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: holds {type(found).__name__}; 'key: value' lines are expected")
    if (here := Path(path).resolve()) in within:
        raise ValueError(f"{path}: includes itself, by way of {', '.join(map(str, within))}")
    below: dict = {}
    names = found.pop("include", [])
    for name in [names] if isinstance(names, str) else names:
        other = here.parent / name if "/" in str(name) else SHARED / str(name)
        if not other.is_file():
            there = ", ".join(sorted(p.name for p in SHARED.glob("*.yaml")))
            raise FileNotFoundError(
                f"{path}: include: {name}: there is no {other}; shared ones are {there}"
            )
        below = merge(below, load(other, (*within, here)))
    return merge(below, found)


def merge(below: dict, above: dict) -> dict:
    """Lay one mapping over another; where both hold a mapping, these are merged too."""
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merge(result[key], value) if both else value
    return result


def parse_setting(setting: str) -> dict:
    """Turn `a.b=value` into `{a: {b: value}}`; the value is read as yaml.

    Raises: ValueError for anything else.
    """
    name, equals, text = setting.partition("=")
    keys = name.split(".")
    if not equals or not all(keys):
        raise ValueError(f"--set {setting!r}: KEY=VALUE is expected, as in adapter_conf.beta=0.1")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"--set {setting!r}: the value is no yaml: {error}") from error
    if isinstance(value, str):
        with contextlib.suppress(ValueError):  # a word, then
            value = float(value)  # yaml takes 1e-3 for a word
    for key in reversed(keys):
        value = {key: value}
    return value


def get_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configs", nargs="+", help="yaml files, the later over the earlier")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--output", required=True, help="the yaml file to write")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Write the configuration."""
    args = get_parser().parse_args(argv)
    try:
        config: dict = {}
        for layer in [*map(load, args.configs), *map(parse_setting, args.set)]:
            config = merge(config, layer)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"make_config: error: {error}")
    head = f"# Made of {' '.join(args.configs)} {' '.join(args.set)}; change those, not this.\n"
    text = yaml.safe_dump(config, allow_unicode=True, sort_keys=False)
    atomic.write(args.output, head + text)
    logging.info("wrote %s", args.output)


if __name__ == "__main__":
    main()
