"""Type check by mypy: rooms that are clean stay clean, the errors of the others may only get fewer.

pyproject.toml says which rooms are clean and how many errors the others may have
(`tool.espnet_blora.types`). Run by: make lint
"""

import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def verdict(output: str, clean: list[str], allowed: int) -> tuple[int, str]:
    """Judge what mypy printed.

    Args:
        output: Lines `espnet_blora/<room>/<file>.py:<line>: error: ...` among others.
        clean: Rooms that must have no error.
        allowed: How many errors the other rooms may have together.

    Returns:
        The exit status, and what to tell the developer.
    """
    errors = list(re.finditer(r"^espnet_blora/(\w+).*: error: .*$", output, re.MULTILINE))
    rooms = Counter(error[1] for error in errors)
    lines = [error[0] for error in errors if error[1] in clean]
    rest = sum(count for room, count in rooms.items() if room not in clean)
    by_room = ", ".join(f"{room} {count}" for room, count in sorted(rooms.items()))
    if rest > allowed:
        lines.append(f"{rest} type errors where {allowed} are allowed ({by_room})")
        lines.append("they are listed by: python3 -m mypy")
    elif rest < allowed and not lines:
        return 0, f"{rest} type errors left: lower tool.espnet_blora.types.others to it"
    return int(bool(lines)), "\n".join(lines)


def main() -> int:
    """Run mypy over the package and judge it."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    rules = settings["tool"]["espnet_blora"]["types"]
    mypy = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", "--no-color-output"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if mypy.returncode and ": error: " not in mypy.stdout:  # it did not get to checking
        sys.stdout.write(mypy.stdout + mypy.stderr)
        return 1
    status, message = verdict(mypy.stdout, rules["clean"], rules["others"])
    sys.stdout.write(message + "\n" * bool(message))
    return status


if __name__ == "__main__":
    sys.exit(main())
