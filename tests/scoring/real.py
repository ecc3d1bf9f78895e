"""What the tests of the bridge to sclite share: where it is, and what it would mis-read."""

from pathlib import Path

import pytest

from espnet_blora.scoring.sclite import find_sclite

TOOLS = Path(__file__).resolve().parents[2] / "tools"
SCLITE = find_sclite([TOOLS / "bin"], [TOOLS / "sctk" / "bin"])
real_sclite = pytest.mark.skipif(
    SCLITE is None, reason="no sclite in tools/sctk/bin or on PATH; `make sclite` gets it"
)

HAZARDS = [
    ["{", "a", "/", "b", "}"],
    ["a", "*x"],
    ["a", "*"],
    ["a", "{", "b"],
    ["M^{ME}"],
    ["x{"],
    ["@"],
    ["a", "@"],
    ["hello;world"],
    ["x;"],
    [";;", "a"],
    [";;a"],
    ["**", "a"],
    ["**a", "b"],
    ["*", "a"],
    ["foo*"],
    ["a", "foo*"],
    ["a\\b"],
    ["\\"],
    ["x\x01y"],
    ["x\x00y"],
    ["é\udcff"],
    ["a" * 20000],
    ["a" * 20001, "b"],
]
