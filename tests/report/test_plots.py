"""Plots: files, names shown as they are, colours that tell systems apart."""

import re

import matplotlib.image
import pytest

from espnet_blora.report import plots
from espnet_blora.report.estimates import analyse
from espnet_blora.report.experiments import make_systems
from espnet_blora.report.style import styles, wrapped

from .conftest import experiment, trio

LONG = "asr_$x_2$_<b>_a_very_long_name_that_goes_on_&_on_" + "y" * 40


@pytest.fixture(scope="module")
def many():
    runs = [experiment("base", {"new": 6, "old": 0})]
    runs += [
        experiment("other", {"new": n % 5, "old": n % 3}, name=f"asr_{n}" if n else LONG)
        for n in range(13)
    ]
    runs[1].config = {"use_adapter": False}
    runs[1].sweep = experiment("lora", {}, [(0.5, 0.4, 0.1)]).sweep
    return analyse(make_systems(runs), ["new"], ["old"])


def test_fourteen_systems_are_told_apart(many):
    assert len(set(styles(many.systems).values())) == 14


@pytest.mark.parametrize("plot", [plots.scatter, plots.bars])
def test_pictures_of_many(many, tmp_path, plot):
    made = plot(tmp_path / "a.png", many)
    picture = matplotlib.image.imread(tmp_path / "a.png")
    assert min(picture.shape[:2]) > 400 and picture[..., :3].std() > 0.05
    assert max(picture.shape[:2]) < 3000
    for svg in (made.wide, made.narrow):
        assert svg.startswith("<svg role=") and "<b>" not in svg and "$x_" in svg
        assert "var(--ink)" in svg and "#1f2328" not in svg
        ids = re.findall(r'\bid="([^"]+)"', svg)
        assert len(ids) == len(set(ids))
        assert set(re.findall(r'href="#([^"]+)"', svg)) <= set(ids)
    both = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (made.wide, made.narrow)]
    assert not both[0] & both[1]
    assert ("weights interpolated" in made.wide) == (plot is plots.scatter)


def test_a_collapsed_system_does_not_squash_the_others(tmp_path):
    runs = [experiment("base", {"new": 6, "old": 0})]
    runs += [experiment("other", {"new": 2, "old": n}, name=f"asr_{n}") for n in (0, 1, 9)]
    made = plots.scatter(tmp_path / "a.png", analyse(make_systems(runs), ["new"], ["old"]))
    assert made.wide.count("logarithmic") == made.narrow.count("logarithmic") == 1
    made = plots.scatter(tmp_path / "a.png", analyse(make_systems(runs[:3]), ["new"], ["old"]))
    assert "logarithmic" not in made.wide


def test_the_same_figures_give_the_same_svg(tmp_path):
    made = [
        plots.bars(tmp_path / "a.png", analyse(trio((2, 2), (3, 1)), ["new"], ["old"])).wide
        for _ in range(2)
    ]
    assert made[0] == made[1]


def test_nothing_to_draw(tmp_path):
    found = analyse(trio((2, 2), (3, 1))[:1], ["new"], ["old"])
    assert plots.scatter(tmp_path / "a.png", found) is None
    assert plots.sparsity(tmp_path / "a.png", found) is None
    assert plots.bars(tmp_path / "a.png", analyse([], ["new"], ["old"])) is None
    assert not list(tmp_path.iterdir())


def test_names_break_at_their_joints():
    assert wrapped("lora_rank_8 with-care", 9) == "lora_\nrank_8\nwith-care"
    assert wrapped("Errors by set", 40) == "Errors by set"
    assert wrapped("x" * 25, 10) == "\n".join(["x" * 10, "x" * 10, "x" * 5])
