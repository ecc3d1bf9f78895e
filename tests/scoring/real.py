"""What the tests of the bridge to sclite share: where it is, its hazards, how ESPnet calls it."""

import os
import subprocess
from pathlib import Path

import pytest

from espnet_blora.scoring.sclite import find_sclite, parse_percentages

TOOLS = Path(__file__).resolve().parents[2] / "tools"
WRAPPER = TOOLS / "bin" / "sclite"
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
# What ESPnet does after sclite: this grep fails, and with it the stage, where there is no such
# line.
STAGE = """
set -euo pipefail
sclite {opts} -r {d}/ref.trn trn -h {d}/hyp.trn trn -i rm -o all stdout > {d}/result.txt
grep -e Avg -e SPKR -m 2 {d}/result.txt
"""


def stage(directory, ref, hyp, opts="", path=f"{WRAPPER.parent}:/usr/bin:/bin"):
    """Score (id, text) pairs as ESPnet does; return the process and what result.txt holds."""
    for name, side in (("ref.trn", ref), ("hyp.trn", hyp)):
        lines = "".join(f"{text}\t({key})\n" for key, text in side)
        (directory / name).write_bytes(lines.encode("utf-8", "surrogateescape"))
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run(
        ["bash", "-c", STAGE.format(d=directory, opts=opts)],
        env={**environment, "PATH": path},
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
        cwd=directory,
    )
    result = directory / "result.txt"
    return done, result.read_bytes().decode("utf-8", "surrogateescape") if result.exists() else ""


def not_scored(report):
    """Whether ESPnet's table will say so."""
    return parse_percentages(report) == "not scored - - - - - -".split()
