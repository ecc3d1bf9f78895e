"""Sections of the page, from few scores."""

from pathlib import Path

from espnet_blora.report import sections
from espnet_blora.report.estimates import analyse
from espnet_blora.report.experiments import Experiment, make_systems
from espnet_blora.report.page import Folded, Prose, Table, foldable, table
from espnet_blora.scoring import score
from tests.report.conftest import experiment

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


def test_many_sets_stay_readable(tmp_path):
    """Plots and examples show 12 of 46 sets, tables of 46 columns are turned, long ones folded."""
    names = {"new": 3, **{f"old_{n:02}": n % 8 for n in range(45)}}
    runs = [experiment("base", dict.fromkeys(names, 0)), experiment("lora", names)]
    retention = [name for name in names if name != "new"]
    analysis = analyse(make_systems(runs), ["new"], retention, dict.fromkeys(retention, 0.02))
    shown = analysis.shown_sets
    assert len(shown) == 12 and set(shown) <= set(names)
    assert min(names[name] for name in shown) == 5  # five sets of 7 errors, five of 6, two of 5
    assert len(analysis.sets) == 46 and analyse(
        make_systems(runs), ["new"], retention[:3], dict.fromkeys(retention[:3], 0.02)
    ).shown_sets == ["new", *retention[:3]]
    rates = sections.errors(analysis)[0]
    assert rates.head == ("", "base", "LoRA") and len(rates.rows) == 46
    assert rates.rows[8][0].text == "old_07 (kept?)" and rates.rows[8][2].text[:4] == "75.0"
    folded = foldable(rates)
    assert isinstance(folded, Folded) and folded.blocks == [rates]
    assert foldable(table(["a"], [["b"]])) == table(["a"], [["b"]])
    assert "beyond kappa on 39 sets" in str(sections.cards(analysis))
