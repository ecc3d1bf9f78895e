"""Seeds, groups, labels: which experiments are one system."""

import pytest

from espnet_blora.report.collect import folders_of
from espnet_blora.report.experiments import find_system, make_systems

from .conftest import experiment


def runs(*names, role="other"):
    return [experiment(role, {"new": 1}, name=name) for name in names]


def test_seeds_are_one_system():
    found = make_systems(runs("asr_x_seed1", "asr_y", "asr_x_seed2", "asr_z_seed7"))
    assert [(s.name, s.label, len(s.runs)) for s in found] == [
        ("asr_x", "x", 2),
        ("asr_y", "asr_y", 1),
        ("asr_z_seed7", "asr_z_seed7", 1),  # a single seed hides nothing behind a shorter name
    ]
    assert [r.label for r in found[0].runs] == ["x (seed1)", "x (seed2)"]


def test_a_group_says_what_belongs_together():
    found = make_systems(
        runs("asr_a", "asr_b", "asr_c"), ["mine=asr_a asr_c"], ["mine=Mine = best"]
    )
    assert [(s.name, s.label) for s in found] == [("mine", "Mine = best"), ("asr_b", "asr_b")]
    assert find_system(found, "asr_c") is found[0] and find_system(found, "Mine = best") is found[0]


def test_names_may_hold_equal_signs():
    found = make_systems(
        runs("asr_lr=1", "asr_lr=1_seed1"), labels=["asr_lr=1=first", "asr_lr=1_seed1=second"]
    )
    assert [s.label for s in found] == ["first", "second"]


def test_seeds_beside_an_experiment_of_their_name_are_another_system():
    found = make_systems(runs("asr_x", "asr_x_seed1", "asr_x_seed2"))
    assert [(s.name, len(s.runs)) for s in found] == [("asr_x", 1), ("asr_x_seed*", 2)]


def test_labels_are_never_the_same():
    found = make_systems(runs("asr_a", "asr_b"), labels=["asr_a=same", "asr_b=same"])
    assert [s.label for s in found] == ["same (asr_a)", "same (asr_b)"]


@pytest.mark.parametrize(
    ("groups", "labels", "message"),
    [
        (["g=asr_a asr_q"], [], "asr_q: no such experiment here; there are: asr_a, asr_b"),
        (["asr_b=asr_a"], [], "asr_b is an experiment outside the group"),
        (["g="], [], "a name and its seeds are needed"),
        (["g=asr_a", "h=asr_a"], [], "asr_a is in g and in h"),
        ([], ["asr_q=x"], "give NAME=LABEL; there are: asr_a, asr_b"),
        ([], ["asr_a= "], "give NAME=LABEL"),
    ],
)
def test_mistakes(groups, labels, message):
    with pytest.raises(ValueError, match=message):
        make_systems(runs("asr_a", "asr_b"), groups, labels)


def test_a_name_stands_for_a_folder_a_path_or_its_seeds(tmp_path):
    for name in ("asr_x_seed10", "asr_x_seed2", "asr_x_seedy", "asr_y", "asr_y_seed1"):
        (tmp_path / name).mkdir()
    assert [p.name for p in folders_of(tmp_path, "asr_x")] == ["asr_x_seed2", "asr_x_seed10"]
    assert folders_of(tmp_path, "asr_y") == [tmp_path / "asr_y"]
    assert folders_of(tmp_path / "asr_y", str(tmp_path / "asr_x_seed2")) == [
        tmp_path / "asr_x_seed2"
    ]
    assert folders_of(tmp_path, "asr_[x]") == [tmp_path / "asr_[x]"]  # missing, and said to be


def test_rates_and_errors_over_seeds():
    a, b = (experiment("lora", {"new": n}, name=f"asr_x_seed{n}") for n in (1, 2))
    (system,) = make_systems([a, b])
    assert system.rates("new") == [0.15, 0.25] and system.rate("new") == pytest.approx(0.2)
    assert system.errors("new")[:, :2].tolist() == [[1, 2], [2, 3]]
    assert system.whole(["new"]) == [a, b] and system.units("new").number == 20
    del b.scores["new"]
    assert system.whole(["new"]) == [a]
    assert system.rate("new") == 0.15 and system.rate("old") is None
    with pytest.raises(ValueError, match="do not share"):
        system.errors("old")
