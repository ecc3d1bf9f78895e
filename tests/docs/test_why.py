"""The picture of why.md: what it shows is what the formulas say, and what the page quotes."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch

from espnet_blora.adapters.repair import RIDGE

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def plot():
    spec = importlib.util.spec_from_file_location("why_plot", ROOT / "docs/why_plot.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def computed(plot):
    return plot.computed()


def test_the_curve_is_that_of_the_repaired_update(plot):
    new, old = plot.second_moment(plot.orthogonal(0)), plot.old_moment(0.5)
    update = plot.trained_update(new)
    traded = plot.repaired(update, new, old)
    eye = torch.eye(plot.WIDTH, dtype=torch.float64)
    new, old = (c + RIDGE * c.diagonal().mean() * eye for c in (new, old))

    def size(matrix, moment):
        return float(((matrix @ moment) * matrix).sum())

    for place in (20, 60, 100):
        left = update @ new @ torch.linalg.inv(new + float(plot.STRENGTHS[place]) * old)
        lost = size(left - update, new) / size(update, new)
        assert float(traded.lost[place]) == pytest.approx(lost, rel=1e-6)
        assert float(traded.old[place]) == pytest.approx(size(left, old) / size(update, old))


def test_old_inputs_have_the_same_power_and_share_what_is_said(plot):
    new = plot.second_moment(plot.orthogonal(0))
    for shared in plot.KINDS.values():
        old = plot.old_moment(shared)
        values = torch.linalg.eigvalsh(old)
        torch.testing.assert_close(values, torch.linalg.eigvalsh(new), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(plot.old_moment(1.0), new)


def test_the_page_quotes_what_is_computed(plot, computed):
    page = " ".join((ROOT / "docs/why.md").read_text(encoding="utf-8").split())
    quoted = {
        r"the scale leaves (\d+) %": float(plot.by_scale(torch.tensor(0.1))),
        r"The repair leaves (\d+) % as well": plot.at(computed["the same directions"], 0.1),
        r"It leaves (\d+) % where every second": plot.at(computed["half of them"], 0.1),
        r"and (\d+) % where none is": plot.at(computed["others"], 0.1),
    }
    for pattern, value in quoted.items():
        assert int(re.search(pattern, page)[1]) == round(100 * value), pattern


def test_the_same_picture_at_every_build(plot):
    text = plot.picture()
    assert text.count("<svg") == 1 and text.count("<path") > 20
    assert plot.picture() == text
