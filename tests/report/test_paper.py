"""The published figures beside ours."""

from espnet_blora.report.estimates import analyse
from espnet_blora.report.verdict import published as beside

from .conftest import trio


def test_ours_beside_the_papers():
    made = beside(analyse(trio((2, 2), (3, 1)), ["new"], ["old"]))
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in made.rows}
    here, published, source = rows["backward gain of BLoRA over LoRA"]
    assert here.startswith("+40.0 % (") and published == "+54 %" and "2510.18723" in source
    assert rows["new-domain change, BLoRA against LoRA"][:2][1] == "-4 %"
    assert rows["Hoyer index of ΔW, BLoRA"] == ["–", "0.45", "BLoRA, arXiv 2510.18723"]
    assert "other data" in made.caption


def test_without_blora_only_the_papers_column_is_filled():
    made = beside(analyse(trio((2, 2), (3, 1))[:1], ["new"], ["old"]))
    assert {row[1].text for row in made.rows} == {"–"} and len(made.rows) == 13
