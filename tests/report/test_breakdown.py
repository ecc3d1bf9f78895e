"""Rates by speaker and by language."""

from espnet_blora.report import most_changed
from espnet_blora.report.estimates import analyse

from .conftest import trio


def with_groups(groups):
    systems = trio((2, 2), (3, 1))
    for system, rates in zip(systems, groups, strict=True):
        rows = {name: {"rate": rate, "tokens": 50} for name, rate in rates.items()}
        system.runs[0].groups = {"old": {"by_speaker": rows, "by_language": {}}}
    return analyse(systems, ["new"], ["old"])


def test_rates_by_speaker_and_their_change():
    found = with_groups([{"a": 0.1, "b": 0.1}, {"a": 0.25, "b": 0.1}, {"a": 0.05, "b": 0.105}])
    heat = most_changed.heat(found, "by_speaker")
    assert [[cell.text for cell in row] for row in heat.rows] == [
        ["old", "a", "50", "10.0", "25.0 ↑", "5.0 ↓"],
        ["old", "b", "50", "10.0", "10.0", "10.5"],
    ]
    assert heat.rows[0][4].heat == 1 and heat.rows[0][5].heat == -0.5
    assert heat.rows[0][3].heat is None and most_changed.heat(found, "by_language") is None


def test_one_group_is_no_breakdown():
    assert most_changed.heat(with_groups([{"a": 0.1}] * 3), "by_speaker") is None


def test_of_many_groups_the_most_changed_are_kept():
    many = {f"s{n:03d}": 0.1 for n in range(40)}
    found = with_groups([many, many | {"s039": 0.5}, many])
    heat = most_changed.heat(found, "by_speaker")
    assert len(heat.rows) == 30 and heat.rows[-1][1].text == "s039"
    assert "10 groups that changed least are left out" in heat.caption
