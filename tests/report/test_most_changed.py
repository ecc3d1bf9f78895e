"""Utterances that changed most."""

from espnet_blora.report.collect import Texts
from espnet_blora.report.estimates import analyse
from espnet_blora.report.experiments import make_systems
from espnet_blora.report.most_changed import change_table, changed, identical, wrong_tokens
from espnet_blora.scoring import score

from .conftest import experiment, trio


def test_the_most_changed_come_first():
    base, lora, _ = trio((2, 2), (3, 1))
    run = lora.runs[0]
    ref = {u.id: "a b c d e f g h i j" for u in run.scores["old"].utterances}
    hyp = dict.fromkeys(ref, "a b c d e f g h i j") | {"old-07": "", "old-03": "a b"}
    run.scores["old"] = score(ref, hyp)
    found = changed(base, lora, "old", 3, worse=True)
    assert [(c.id, c.before, c.after) for c in found.most] == [("old-07", 1, 10), ("old-03", 1, 8)]
    assert (found.worse, found.better, found.same) == (2, 8, 10)
    better = changed(base, lora, "old", 3, worse=False)
    assert [c.id for c in better.most] == ["old-01", "old-05", "old-09"]


def test_of_several_seeds_the_mean_counts_and_the_worst_is_shown():
    base = experiment("base", {"old": 0})
    runs = [experiment("lora", {"old": 0}, name=f"asr_lora_seed{n}", extra=n * 2) for n in (1, 2)]
    base, lora = make_systems([base, *runs])
    (one,) = changed(base, lora, "old", worse=True).most
    assert (one.id, one.before, one.after) == ("old-00", 0, 3)
    assert one.run.name == "asr_lora_seed2"


def test_words_are_shown_and_the_wrong_ones_marked(tmp_path):
    base, lora, _ = systems = trio((2, 2), (3, 1))
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "text").write_text("old-01 One two\nold-03 <b>\n")
    for system, words in ((base, "one two"), (lora, "One, TOO"), (systems[2], "x")):
        place = tmp_path / system.name
        place.mkdir()
        (place / "text").write_text(f"old-01 {words}\n")
        system.runs[0].decoded["old"] = place
    found = analyse(systems, ["new"], ["old"])
    words = Texts(tmp_path)
    change = changed(base, lora, "old", 2, worse=True)
    first, second = change_table(found, lora, "old", change, words).rows
    said = ["old-01", "One two", "one two", "One, TOO", "1 → 3 of 10"]
    assert [cell.text for cell in first] == said
    assert first[3].marks == (("One", False), (", ", False), ("TOO", True))
    assert [cell.text for cell in second] == ["old-03", "<b>", "–", "–", "1 → 3 of 10"]
    assert not words.notes


def test_texts_that_are_gone_are_noted_once(tmp_path):
    base, lora, _ = systems = trio((2, 2), (3, 1))
    words = Texts(tmp_path)
    found = analyse(systems, ["new"], ["old"])
    for name in ("old", "new"):
        change = changed(base, lora, name, worse=name == "old")
        table = change_table(found, lora, name, change, words)
        assert {cell.text for row in table.rows for cell in row[1:4]} == {"–"}
        words.reference(name)
    assert len(words.notes) == 2 and "is not there any more" in words.notes[0]


def test_wrong_tokens():
    assert wrong_tokens(["a", "b", "c"], ["x", "b", "c", "d"]) == [
        *(("x", True), ("b", False), ("c", False), ("d", True)),
    ]


def test_systems_with_identical_texts_are_named(tmp_path):
    systems = trio((2, 2), (2, 2))  # LoRA and BLoRA have the same counts
    heard = {"base": "a b", "LoRA": "x b", "BLoRA": "x b"}
    for system in systems:
        for name in ("new", "old"):
            place = tmp_path / system.name / name
            place.mkdir(parents=True)
            words = "y b" if (system.label, name) == ("BLoRA", "old") else heard[system.label]
            (place / "text").write_text(f"u1 {words}\n")
            system.runs[0].decoded[name] = place
    found = identical(analyse(systems, ["new"], ["old"]), Texts(tmp_path))
    assert found == ["LoRA and BLoRA: identical texts in every utterance of new."]
