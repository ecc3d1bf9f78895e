"""benchmarks/retention.py on a corner of mini_noisy: every kind of run, resumed, and the table."""

import json

import numpy as np
import pytest
import torch
import yaml

from benchmarks.keeping import table
from benchmarks.keeping.bed import Bed, alone
from benchmarks.keeping.runs import Runs, Sets, packed, read_plan, unpacked
from espnet_blora.data.mini_beds import BEDS
from espnet_blora.data.mini_cs import build
from tests.integration.conftest import TINY

PLAN = {
    "lora": {"adapter": "lora", "over": {"lr": [0.001]}},
    "keep": {"adapter": "lora_keep", "old": "old_30s", "over": {"strength": [1.0]}},
    "repair": {"adapter": "lora", "old": "old_30s", "repair": True},
    "distil": {
        "adapter": "lora",
        "old": "old_30s",
        "retain": {"kind": "distillation", "every": 2},
        "over": {"weight": [2.0]},
    },
    "replay": {
        "adapter": "lora",
        "old": "old_30s",
        "retain": {"kind": "replay", "every": 2, "weight": 1.0},
    },
}
KNOBS = (0.5, 1.0)
PLAN |= {
    "ewc": {"adapter": "lora_ewc", "old": "old_30s", "conf": {"strength": 10.0}},
    "kfac": {
        "adapter": "lora",
        "old": "old_30s",
        "retain": {"kind": "kfac", "every": 1, "weight": 10.0},
    },
    "osf": {"adapter": "osf", "conf": {"rank": 8}, "lr": 0.0001},
}
SETS = Sets("noisy")
NAMES = [SETS.train, *SETS.valid, *SETS.final, "old_30s"]


@pytest.fixture(scope="module")
def bed(tmp_path_factory):
    """A few spoken utterances of each set, and the shipped base."""
    folder = tmp_path_factory.mktemp("bed")
    build(folder / "data", NAMES, nj=1, scale=0.01, corpus=BEDS["mini_noisy"])
    torch.set_num_threads(1)
    return Bed(folder / "data", TINY, NAMES)


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "plan.yaml"
    path.write_text(yaml.safe_dump(PLAN, sort_keys=False))
    return read_plan(path)


@pytest.fixture(scope="module")
def runs(bed, plan, tmp_path_factory):
    """All runs of the plan, one epoch each: validation sets, then the final ones of two."""
    folder = tmp_path_factory.mktemp("runs")
    made = Runs(bed, SETS, folder / "results", folder / "work", 1, KNOBS)
    for setting in (None, *(setting for group in plan.values() for setting in group)):
        assert made.run(setting, 0, SETS.valid)
        assert not made.run(setting, 0, SETS.valid)  # it is there
    for setting in (None, plan["lora"][0], plan["repair"][0]):
        assert made.run(setting, 0, [*SETS.valid, *SETS.final])
    return made


def test_the_plan_has_every_combination(plan):
    names = [setting.name for group in plan.values() for setting in group]
    assert names == [
        "lora-lr0.001",
        "keep-lr0.001-strength1.0-old_30s",
        "repair-lr0.001-old_30s",
        "distil-lr0.001-every2-weight2.0-old_30s",
        "replay-lr0.001-every2-weight1.0-old_30s",
        "ewc-lr0.001-strength10.0-old_30s",
        "kfac-lr0.001-every1-weight10.0-old_30s",
        "osf-lr0.0001-rank8",
    ]
    assert plan["repair"][0].training.name == "lora-lr0.001"


def test_a_cut_table_says_the_same_where_it_can(bed):
    """A text of the whole table whose tokens are all in the cut one is found there, too."""
    whole = Bed(bed.data, TINY, ["ret_zh"], cut=False)
    assert len(bed.kept) < 2000 < len(whole.kept)
    cut, full = (
        [[int(one.kept[t]) for t in text] for text in one.transcribe(one.sets["ret_zh"], {})]
        for one in (bed, whole)
    )
    there = [i for i, text in enumerate(full) if set(text) <= set(bed.kept.tolist())]
    assert there and all(cut[i] == full[i] for i in there)


def test_every_run_has_its_counts(runs, plan):
    base = json.loads(runs.path(None).read_text())
    for group in plan.values():
        for setting in group:
            run = json.loads(runs.path(setting, 0).read_text())
            assert run["knobs"] == list(KNOBS)
            final = SETS.final if setting.method in ("lora", "repair") else []
            assert list(run["sets"]) == [*SETS.valid, *final]
            for name in run["sets"]:
                errors = unpacked(run["sets"][name]["errors"])
                tokens = unpacked(run["sets"][name]["tokens"])
                assert errors.shape == (len(KNOBS), len(tokens))
                assert np.array_equal(tokens, unpacked(base["sets"][name]["tokens"]))


def test_a_knob_of_one_is_the_training_and_a_repair_of_it_starts_there(runs, plan):
    """At knob 1 mu is 0, so the repair is the LoRA itself."""
    lora, repair = (
        json.loads(runs.path(plan[name][0], 0).read_text())["sets"] for name in ("lora", "repair")
    )
    for name in SETS.valid:
        whole = [unpacked(one[name]["errors"])[-1].tolist() for one in (lora, repair)]
        assert whole[0] == whole[1]


def test_the_table_has_what_was_scored_on_the_final_sets(runs):
    lines = table.table(runs.results).splitlines()
    rows = [line.split(" | ")[0].removeprefix("| ") for line in lines[4:]]
    assert rows == ["lora-lr0.001", "**lower envelope**", "repair-lr0.001-old_30s"]
    assert len({line.count(" |") for line in lines[2:3] + lines[4:]}) == 1
    assert len(table.chosen_names(runs.results)) == len(PLAN)


def test_the_curves_are_drawn(runs, tmp_path):
    table.plot(runs.results, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_the_choice_is_shown_on_the_validation_sets_of_all_settings(runs, plan):
    rows = [line.split(" | ") for line in table.choice(runs.results).splitlines()[4:]]
    named = {row[0].removeprefix("| ").strip("*") for row in rows}
    assert named == {setting.name for settings in plan.values() for setting in settings}
    assert sum("**" in row[0] for row in rows) == len(PLAN) - 1  # one of each but the rival


def test_a_setting_may_train_longer_than_the_others(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("lora: {adapter: lora, over: {lr: [0.002], epochs: [0, 14]}}")
    short, long = read_plan(path)["lora"]
    assert (short.name, long.name) == ("lora-lr0.002", "lora-lr0.002-epochs14")
    assert (short.epochs, long.epochs) == (0, 14)


def test_scales_above_one(bed, plan, tmp_path):
    """They are the trained update turned up; a repair has none; as trained is still scale 1."""
    made = Runs(bed, SETS, tmp_path / "results", tmp_path / "work", 1, (0.5, 0.8, 1.0, 1.2))
    lora, repair = plan["lora"][0], plan["repair"][0]
    for setting in (None, lora, repair):
        assert made.run(setting, 0, SETS.valid)
    run = json.loads(made.path(lora, 0).read_text())
    assert run["knobs"] == [0.5, 0.8, 1.0, 1.2]
    assert json.loads(made.path(repair, 0).read_text())["knobs"] == [0.5, 0.8, 1.0]
    old = [run["sets"][name]["rates"] for name in ("valid_en", "valid_zh")]
    row = next(r for r in table.choice(made.results).splitlines() if r.startswith("| lora"))
    assert f"/ {50 * (old[0][2] + old[1][2]):.2f} |" in row
    fewer = Runs(bed, SETS, made.results, made.work.parent, 1, (0.5, 0.8, 1.0))
    with pytest.raises(SystemExit, match="other values of the knob"):
        fewer.run(lora, 0, SETS.final)


def test_results_of_another_training_are_refused(runs, plan):
    other = Runs(runs.bed, SETS, runs.results, runs.results, epochs=2)
    with pytest.raises(SystemExit, match="another base, table or training"):
        other.run(plan["lora"][0], 0, ["valid_noisy", "train_noisy"])


def test_one_process_at_a_time(tmp_path):
    with alone(tmp_path / "x.json") as first, alone(tmp_path / "x.json", wait=False) as second:
        assert first and not second
    with alone(tmp_path / "x.json", wait=False) as third:
        assert third


def test_counts_come_back():
    counts = np.array([[0, 3], [70, 1]])
    assert np.array_equal(unpacked(packed(counts)), counts)
