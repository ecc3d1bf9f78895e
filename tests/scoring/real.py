"""What the tests of the bridge to sclite share: where it is, and its hazards.

Where CI is set, a missing sclite is a failure: nothing would be compared.
"""

import os

import pytest

from espnet_blora.scoring.experiment import Stage, score_set
from espnet_blora.scoring.modes import combinations
from espnet_blora.scoring.sclite import Reading, find_sclite, parse_percentages

SCLITE, _ = find_sclite()
if SCLITE is None and os.environ.get("CI"):
    raise RuntimeError("CI is set and there is no sclite: `make sclite` gets it")
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


def stage(folder, ref, hyp, opts="", sclite=SCLITE, name="set", **more):
    """Score two sides (id `speaker-rest` -> text) as stage 13 does; return its outcome."""
    data, decoded = folder / "dump" / name, folder / "exp" / "decode" / name
    for path, side in ((data / "text", ref), (decoded / "text", hyp)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{key} {text}\n" for key, text in side.items()), "utf-8")
    speakers = "".join(f"{key} {key.partition('-')[0] or 's'}\n" for key in ref)
    (data / "utt2spk").write_text(speakers, "utf-8")
    how = Stage(
        folder / "exp",
        "decode",
        folder / "dump",
        combinations("default"),
        Reading.parse(opts),
        sclite=(sclite, "there is none"),
        **more,
    )
    return score_set(how, name)


def report(folder, kind="wer", name="set"):
    """Return what `result.txt` holds."""
    return (folder / "exp" / "decode" / name / f"score_{kind}" / "result.txt").read_text("utf-8")


def not_scored(text):
    """Whether ESPnet's table will say so."""
    return parse_percentages(text) == "not scored - - - - - -".split()
