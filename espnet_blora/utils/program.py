"""The frame of every program: its options, its exit status, its one line for a user's mistake.

Exit status 0: done. 1: the program ran and found something wrong, which it has said. 2: a user's
mistake, in the options or in what they name, as one line `NAME: error: ...` on standard error;
ESPNET_BLORA_DEBUG=1 shows its traceback. 130: stopped by Ctrl-C; 141: who reads its output (`head`)
has gone; both as in a shell. Anything else is a fault of the program: a traceback.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from espnet_blora.utils.mistakes import DEBUG, parse_scale, users_mistake, wants_traceback

_COMMAND = "espnet-blora"

log = logging.getLogger(__name__)


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Help with the defaults of options, and with the description as it was written."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, "", [], (), False):  # an option that is simply not given
            return action.help
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser for the programs of this package.

    `--batch-size` and `--batch_size` are the same option, `--help` shows the defaults, and an old
    name of an option is accepted with a warning (`renamed`).

    Args:
        name: Name of the program, as in `espnet-blora NAME`; argparse names subcommands by itself.
        description: Usually the module's docstring.
        options: Of `argparse.ArgumentParser`.
    """

    def __init__(self, name: str = "", description: str | None = None, **options: Any):
        prog = f"{_COMMAND} {name}" if name else options.pop("prog")
        self.name = prog.removeprefix(f"{_COMMAND} ")
        super().__init__(
            prog=prog,
            description=description,
            formatter_class=_Formatter,
            allow_abbrev=False,
            **options,
        )
        self._renamed: dict[str, str] = {}

    def renamed(self, old: str, new: str) -> None:
        """Accept the old name of an option for one more release, with a warning.

        Args:
            old: Such as `--root`.
            new: The option's name today, such as `--corpus_dir`.
        """
        self._renamed[_underscored(old)] = new

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        """Parse as argparse does, options in today's spelling first."""
        words = list(sys.argv[1:] if args is None else args)
        plain = words.index("--") if "--" in words else len(words)
        words[:plain] = [self._todays(word) for word in words[:plain]]
        return super().parse_known_args(words, namespace)

    def _todays(self, word: str) -> str:
        """Return an option word with the name that the parser knows; other words as they are."""
        if not word.startswith("--"):
            return word
        name, equals, value = word.partition("=")
        if name in self._option_string_actions:
            return word
        # an old name becomes today's, a spelling the one that the option was added with
        name = _underscored(name)
        if name in self._renamed:
            log.warning("%s is called %s now", name, self._renamed[name])
            name = self._renamed[name]
        known = {_underscored(option): option for option in self._option_string_actions}
        return known.get(name, name) + equals + value if name in known else word

    def error(self, message: str) -> NoReturn:
        """Print the mistake as one line and exit with status 2."""
        self.exit(2, f"{self.name}: error: {message}\n")


def scale(text: str) -> float:
    """Read the value of an option that is an adapter's scale; a mistake is argparse's to show."""
    try:
        return parse_scale(text, "not a scale")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def pairs(words: Sequence[str], option: str) -> dict[str, str]:
    """Read the `NAME=VALUE` words of an option that may be repeated.

    >>> pairs(["noise=keep", "split_dir=/a=b"], "--corpus_option")
    {'noise': 'keep', 'split_dir': '/a=b'}

    Raises:
        ValueError: A word has another form, or a name stands twice.
    """
    values: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise ValueError(f"{option} {word!r}: NAME=VALUE is expected")
        if name in values:
            raise ValueError(f"{option}: the name {name!r} stands twice")
        values[name] = value
    return values


def program(
    get_parser: Callable[[], Parser], work: Callable[[argparse.Namespace], int | None]
) -> Callable[..., int]:
    """Return a program's `main`: `run_program` on the command line that it is given, if any."""
    return lambda argv=None: run_program(get_parser(), work, argv)


def run_program(
    parser: Parser,
    work: Callable[[argparse.Namespace], int | None],
    argv: Sequence[str] | None = None,
) -> int:
    """Parse the options, do the work, and return the exit status (see the module).

    Args:
        parser: The program's options.
        work: Does it; returns 1 if it found something wrong, else 0 or None.
        argv: The command line; by default this process's.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        status = work(_parse(parser, argv)) or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # who reads the output has enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        if wants_traceback():
            raise
        sys.stderr.write(f"{parser.name}: interrupted\n")
        return 128 + signal.SIGINT
    except (ValueError, OSError) as error:
        message = users_mistake(error)
        if message is None and isinstance(error, OSError) and error.filename is not None:
            message = str(error)  # a file that cannot be read or written: named by the system
        if message is None or wants_traceback():
            raise
        sys.stderr.write(f"{parser.name}: error: {message} ({DEBUG}=1 shows where it arose)\n")
        return 2


def _parse(parser: Parser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line whose options may stand between its positional words."""
    words = list(sys.argv[1:] if argv is None else argv)
    if "--" in words:  # behind it argparse would find options after all
        return parser.parse_args(words)
    try:
        return parser.parse_intermixed_args(words)
    except TypeError:  # argparse cannot, with subcommands or a positional in an exclusive group
        return parser.parse_args(words)


def _underscored(option: str) -> str:
    return "--" + option.removeprefix("--").replace("-", "_")
