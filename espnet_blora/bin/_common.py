"""Options and openings that several programs share."""

from __future__ import annotations

import argparse
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_blora.decoding.options import FIELDS, SEARCH, DecodingOptions
from espnet_blora.utils.program import Parser

if TYPE_CHECKING:
    from espnet_blora.decoding.recogniser import Recogniser

ALL_LINEARS = "query key value out mlp.0 mlp.2"
"""`target_modules` of every Linear of a Whisper that an adapter may go on."""
log = logging.getLogger(__name__)


def add_experiment(parser: Parser) -> None:
    """Add the options of programs that open an experiment and read sets."""
    add_model(parser)
    add = parser.add_argument
    add("--dump", type=Path, default=Path("dump/raw"), help="folder of the sets")
    add_sets(parser)


def add_sets(parser: Parser) -> None:
    """Add `--sets`; `set_names` reads it."""
    parser.add_argument("--sets", nargs="+", required=True, help="names of sets in --dump")


def set_names(words: Sequence[str]) -> list[str]:
    """Return the names that `--sets` has: words, or several in one, blanks between.

    >>> set_names(["test valid", "org/valid"])
    ['test', 'valid', 'org/valid']
    """
    return " ".join(words).split()


def find_sets(args: argparse.Namespace) -> list[str]:
    """Return the names that `--sets` has, of which each is a folder in `--dump`.

    Raises:
        FileNotFoundError: There is no such folder.
    """
    names = set_names(args.sets)
    for name in names:
        if not (args.dump / name).is_dir():
            here = sorted(path.parent.name for path in args.dump.glob("*/wav.scp"))
            raise FileNotFoundError(
                f"{args.dump / name}: no such set; there are {', '.join(here) or 'none'}"
            )
    return names


def add_model(parser: Parser, required: bool = True) -> None:
    """Add the options of programs that open an experiment."""
    add = parser.add_argument
    add("--asr_exp", type=Path, required=required, help="experiment folder of stage 11")
    add("--model_file", help="checkpoint in it (default: best epoch, else the base)")
    add("--whisper", help="published size or checkpoint file of the base")
    add("--threads", type=int, default=os.cpu_count(), help="CPU threads")
    add("--device", default="cpu", help="torch device")


def add_corpus(parser: Parser) -> None:
    """Add the options of programs that read a corpus."""
    from espnet_blora.data.registry import CORPORA

    parser.add_argument("corpus", help=f"one of {' '.join(CORPORA)}")
    parser.add_argument(
        "--corpus_option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="option of the corpus's reader, any number of times",
    )
    parser.renamed("--option", "--corpus_option")


def numbers(text: str, option: str) -> list[float]:
    """Return the finite numbers from 0 on that an option names, blanks between.

    >>> numbers("1 2.5", "--scales")
    [1.0, 2.5]

    Raises:
        ValueError: There is none, or something else.
    """
    try:
        values = [float(word) for word in text.split()]
    except ValueError:
        values = []
    if not values or not all(0 <= value < math.inf for value in values):
        raise ValueError(f"{option} {text!r}: numbers from 0 on, blanks between, are needed")
    return values


def open_recogniser(args: argparse.Namespace, **how: Any) -> Recogniser:
    """Open the experiment of `add_model`'s options.

    Args:
        args: Those options.
        how: More arguments of `espnet_blora.decoding.recogniser.open_experiment`.
    """
    from espnet_blora.decoding.recogniser import open_experiment, set_threads

    set_threads(args.threads)
    return open_experiment(args.asr_exp, args.model_file, args.whisper, args.device, **how)


def read_options(args: argparse.Namespace) -> DecodingOptions:
    """Read decoding options: `--inference_config`'s, and before them those of the command line.

    Without both, the search is greedy and ESPnet's, as in a recipe.

    Raises:
        FileNotFoundError: The yaml is not there.
        ValueError: A name that stage 12 does not know, or a value that is not allowed.
    """
    from espnet_blora.bin import make_config
    from espnet_blora.plugin.inference_options import OURS, TABLE
    from espnet_blora.utils.mistakes import did_you_mean

    path = args.inference_config
    config = {} if path is None else make_config.load(path)
    for name in config:
        if name not in TABLE:
            raise ValueError(f"{path}: {name!r} is not an option{did_you_mean(name, TABLE)}")
    ignored = [name for name in ("ctc_weight", "lm_weight", "ngram_weight") if config.get(name)]
    if ignored:
        log.warning("%s: %s: this search has none; ignored", path, ", ".join(ignored))
    # the yaml's seed and batch size are stage 12's own
    values = {"beam_size": 1} | OURS | {n: v for n, v in config.items() if n in SEARCH}
    given = {n: v for n, v in vars(args).items() if n in FIELDS and v is not None}
    return DecodingOptions.from_mapping(values | given, str(path or "options"))
