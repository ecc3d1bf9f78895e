"""The ratchet of type errors: clean rooms stay clean, the others' count may only fall."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
verdict = runpy.run_path(str(ROOT / "tools/check_types.py"))["verdict"]
OUTPUT = """espnet_blora/text/tokens.py:5: error: Missing return  [return]
espnet_blora/text/tokens.py:5: note: see the documentation
espnet_blora/report/page.py:7: error: Incompatible types  [assignment]
espnet_blora/report/page.py:9: error: Incompatible types  [assignment]
"""


@pytest.mark.parametrize(
    ("clean", "allowed", "status", "part"),
    [
        ([], 3, 0, ""),
        (["data"], 4, 0, "lower"),
        ([], 2, 1, "report 2, text 1"),
        (["text"], 2, 1, "tokens.py:5"),
        (["text"], 9, 1, "tokens.py:5"),
    ],
)
def test_verdict(clean, allowed, status, part):
    found, message = verdict(OUTPUT, clean, allowed)
    assert found == status
    assert part in message


def test_nothing_found_is_fine():
    assert verdict("", ["text"], 0) == (0, "")
