"""Console entry `espnet-blora PROGRAM`: runs one program of `espnet_blora/bin/`.

`espnet-blora transcribe talk.wav` is `python3 -m espnet_blora.bin.transcribe talk.wav`. Only the
program that runs is imported.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_blora.utils.mistakes import did_you_mean
from espnet_blora.version import __version__

NAME = "espnet-blora"
BIN = Path(__file__).resolve().parent / "bin"


def programs() -> dict[str, Path]:
    """Return name and file of every program, in order of name."""
    return {path.stem: path for path in sorted(BIN.glob("*.py")) if path.stem[0] != "_"}


def usage() -> str:
    """Return the help text: one line per program, the first of its docstring, without an import."""
    width = max(map(len, programs()))
    lines = [
        f"usage: {NAME} PROGRAM [options]",
        f"       {NAME} PROGRAM --help",
        f"       {NAME} --version",
        "",
        "programs:",
    ]
    for name, path in programs().items():
        docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        lines.append(f"  {name:{width}}  {docstring.partition(chr(10))[0]}".rstrip())
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program that the first word names with all further words; return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        sys.stdout.write(usage())
        return 0 if words else 2
    if words[0] == "--version":
        sys.stdout.write(f"{NAME} {__version__}\n")
        return 0
    name = words[0].replace("-", "_")
    if name not in programs():
        hint = did_you_mean(name, programs()) or f"; {NAME} --help lists them"
        sys.stderr.write(f"{NAME}: error: no program {words[0]!r}{hint}\n")
        return 2
    return importlib.import_module(f"espnet_blora.bin.{name}").main(words[1:]) or 0


if __name__ == "__main__":
    sys.exit(main())
