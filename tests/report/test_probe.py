"""Figures of probes: numbers in the table and the JSON, and a picture of them."""

import pytest
from matplotlib.image import imread

from espnet_blora.report.probe import Depth, plot, table

DEPTHS = [Depth("decoder", 1, (0.9, 1.0)), Depth("decoder", 2, (0.5, 0.7))]


def test_the_table_has_means_and_spreads_in_per_cent():
    lines = table(DEPTHS, 0.5).splitlines()
    assert lines[0].split() == ["side", "layer", "accuracy", "%", "s.d.", "lowest", "highest"]
    assert lines[1].split() == ["decoder", "1", "95.0", "7.1", "90.0", "100.0"]
    assert lines[2].split() == ["decoder", "2", "60.0", "14.1", "50.0", "70.0"]
    assert lines[3] == "always the commonest language: 50.0 %"
    assert len({len(line) for line in lines[:3]}) == 1
    assert table([Depth("encoder", 1, (0.5,))], 0.5).splitlines()[1].split()[3] == "-"


def test_a_row_of_json():
    row = DEPTHS[0].row()
    assert row["side"] == "decoder" and row["layer"] == 1 and row["accuracy"] == [0.9, 1.0]
    assert row["mean"] == pytest.approx(0.95)
    assert row["standard_deviation"] == pytest.approx(0.0707, abs=1e-4)
    assert Depth("encoder", 1, (0.5,)).row()["standard_deviation"] is None


@pytest.mark.parametrize("depths", [DEPTHS, [*DEPTHS, Depth("encoder", 1, (0.2, 0.3))]])
def test_the_plot_is_a_picture(tmp_path, depths):
    plot(tmp_path / "probe.png", depths, 0.5, "base: telling en, zh apart")
    picture = imread(tmp_path / "probe.png")
    assert picture.shape[1] > 1000 and picture[..., :3].std() > 0.05
    plot(tmp_path / "other.png", [Depth(d.side, d.layer, (1.0, 1.0)) for d in depths], 0.5, "x")
    assert imread(tmp_path / "other.png").tobytes() != picture.tobytes()
