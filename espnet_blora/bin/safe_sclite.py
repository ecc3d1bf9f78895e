"""sclite with a guard before it: safe .trn files, and "not scored" instead of a crash.

Takes sclite's own arguments; see espnet_blora.scoring.sclite_guard. `tools/bin/sclite` calls it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from espnet_blora.scoring.sclite_guard import guard


def get_parser() -> argparse.ArgumentParser:
    """Return a parser that leaves every argument alone: they are sclite's (its -h is a file)."""
    return argparse.ArgumentParser(
        prog="sclite", description=__doc__, add_help=False, allow_abbrev=False
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run sclite, guarded; return its status."""
    _, words = get_parser().parse_known_args(sys.argv[1:] if argv is None else argv)
    return guard(words)


if __name__ == "__main__":
    sys.exit(main())
