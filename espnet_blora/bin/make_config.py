"""Merge yaml files, the later over the earlier, and single settings into one configuration.

The word `include` in a file names files that it lies over: `include: train.yaml` is looked for in
espnet_blora/recipes/conf, which recipes share; with a slash (`./base.yaml`) in the file's own
folder. `1e-3` is a number, in files as in settings.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from espnet_blora.utils import atomic
from espnet_blora.utils.mistakes import did_you_mean
from espnet_blora.utils.program import Parser, program

SHARED = Path(__file__).resolve().parents[1] / "recipes" / "conf"

_SETTING = re.compile(r"[^=.\s]+(\.[^=.\s]+)*=")

log = logging.getLogger(__name__)


def load(path: str | Path, within: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read one yaml file of keys and values, laid over the files that its key `include` names.

    Args:
        path: The file.
        within: The files that include it.

    Raises:
        FileNotFoundError: The file is not there, or one that it includes.
        ValueError: The file is not yaml, is not a mapping, or includes itself.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such configuration")
    try:
        config: Any = OmegaConf.to_container(OmegaConf.load(path))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not yaml: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path}: holds {type(config).__name__}; 'key: value' lines are expected")
    if (here := Path(path).resolve()) in within:
        raise ValueError(f"{path}: includes itself, by way of {', '.join(map(str, within))}")
    names = config.pop("include", [])
    below = []
    for name in [names] if isinstance(names, str) else names:
        other = here.parent / name if "/" in str(name) else SHARED / str(name)
        if not other.is_file():
            shared = sorted(p.name for p in SHARED.glob("*.yaml"))
            hint = did_you_mean(name, shared) or f"; shared ones are {', '.join(shared)}"
            raise FileNotFoundError(f"{path}: include: {name}: there is no {other}{hint}")
        below.append(load(other, (*within, here)))
    return merge(*below, config)


def merge(*layers: dict[str, Any]) -> dict[str, Any]:
    """Lay mappings over each other; where two hold a mapping under one key, these are merged too.

    >>> merge({"conf": {"rank": 8, "alpha": 16}}, {"conf": {"rank": 4}})
    {'conf': {'rank': 4, 'alpha': 16}}
    """
    merged: Any = OmegaConf.to_container(OmegaConf.merge(*layers))
    return merged


def parse_setting(setting: str) -> dict[str, Any]:
    """Read `a.b=value`; the value is yaml.

    >>> parse_setting("optim_conf.lr=1e-3")
    {'optim_conf': {'lr': 0.001}}

    Raises:
        ValueError: `setting` has another form.
    """
    if not _SETTING.match(setting):
        raise ValueError(f"--set {setting!r}: KEY=VALUE is expected, as in adapter_conf.beta=0.1")
    try:
        config: Any = OmegaConf.to_container(OmegaConf.from_dotlist([setting]))
    except yaml.YAMLError as error:
        raise ValueError(f"--set {setting!r}: the value is not yaml: {error}") from error
    return config


def get_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser("make_config", __doc__)
    parser.add_argument("configs", nargs="+", help="yaml files, the later over the earlier")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="a setting over all files; may be repeated")  # fmt: skip
    parser.add_argument("--output", required=True, help="the yaml file to write")
    return parser


def work(args: argparse.Namespace) -> None:
    """Write the configuration."""
    config = merge(*map(load, args.configs), *map(parse_setting, args.set))
    head = f"# Made of {' '.join(args.configs)} {' '.join(args.set)}; change those, not this.\n"
    text = yaml.safe_dump(config, allow_unicode=True, sort_keys=False)
    atomic.write(args.output, head + text)
    log.info("wrote %s", args.output)


main = program(get_parser, work)

if __name__ == "__main__":
    sys.exit(main())
