"""Sections of the page, from few scores."""

from pathlib import Path

from espnet_blora.report import sections
from espnet_blora.report.estimates import analyse
from espnet_blora.report.experiments import Experiment, make_systems
from espnet_blora.report.page import Prose, Table
from espnet_blora.scoring import score

REF = {f"u{n}": "x 四" for n in range(10)}
# the x that is too many stands before x (a point) or before 四; in the last ten it replaces x
DOUBLED, REPLACED = "x x 四", "y z 四"


def run(role, heard):
    made = Experiment(f"asr_{role}", Path(f"asr_{role}"), role, role)
    made.scores["cs"] = score(REF, dict(zip(REF, heard, strict=True)))
    return made


def errors(**heard):
    """Return the table of the sides and the sentences of the page's section of errors."""
    systems = make_systems([run(role, texts) for role, texts in heard.items()])
    blocks = sections.errors(analyse(systems, ["cs"], [], {}))
    (table,) = (b for b in blocks if isinstance(b, Table) and "embedded language" in b.head)
    rows = [[cell.text for cell in row] for row in table.rows]
    return rows, [block.text for block in blocks if isinstance(block, Prose)]


def test_pier_claims_no_difference_where_the_ranges_touch():
    base = [REPLACED] * 10
    rows, told = errors(base=base, lora=[DOUBLED] * 10, blora=[DOUBLED] * 5 + ["x 四"] * 5)
    # every doubled x is an error on the embedded language, and none or one at a point
    assert [row[4:] for row in rows] == [
        ["200.0", "100.0 (100.0 to 200.0)"],
        ["100.0", "0.0 (0.0 to 100.0)"],
        ["50.0", "0.0 (0.0 to 50.0)"],
    ]
    assert len(told) == 1 and "blora and lora on cs" in told[0]


def test_a_treatment_is_described_once():
    systems = make_systems([run("base", ["x 四"] * 10)])
    blocks = sections.errors(analyse(systems, ["cs"], [], {}))
    table, told = blocks[-2:]
    assert [cell.text for cell in table.rows[0]] == ["cs", "new", "10", "20", "MER, basic"]
    assert len(told.items) == 1 and "NFKC" in told.items[0]


def test_pier_may_tell_systems_apart():
    rows, told = errors(base=[REPLACED] * 10, lora=["x 四"] * 10, blora=["y 四"] * 10)
    assert [row[5] for row in rows][1:] == ["0.0 (0.0 to 0.0)", "100.0 (100.0 to 100.0)"]
    assert told == []
