"""sclite with a guard before it: safe .trn files, and "not scored" instead of a crash.

Takes sclite's own arguments; see espnet_blora.scoring.sclite_guard. ``tools/bin/sclite`` calls it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from espnet_blora.scoring.sclite_guard import guard


def main(argv: Sequence[str] | None = None) -> int:
    """Run sclite, guarded; return its status."""
    return guard(sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
