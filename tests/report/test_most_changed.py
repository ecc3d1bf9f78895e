"""Utterances that changed most, to read and to hear."""

import base64
import io
import re

import numpy as np
import soundfile

from espnet_blora.bin.report import main
from espnet_blora.report.collect import Texts
from espnet_blora.report.estimates import analyse
from espnet_blora.report.experiments import make_systems
from espnet_blora.report.most_changed import change_table, changed, identical, wrong_tokens
from espnet_blora.scoring import score

from .conftest import SETS, experiment, make_tree, trio


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


def hear(exp, dump, *words):
    """Write the report; return the figures of its section "Hear it"."""
    sets = ["--test_sets", "test_cs", "--retention_sets", "ret_en ret_zh"]
    assert main(["--exp", str(exp), "--dump", str(dump), *sets, *words]) == 0
    page = (exp / "retention.html").read_text(encoding="utf-8")
    return page, re.findall(r'<figure class="heard">.*?</figure>', page, re.DOTALL)


def test_four_utterances_can_be_heard(tmp_path):
    """The two that worsened most on old sets, the two that improved most on the new one."""
    exp, dump = make_tree(tmp_path, 20)
    generator = np.random.default_rng(0)
    for name in SETS:
        lines = []
        for line in (dump / name / "text").read_text(encoding="utf-8").splitlines():
            path = tmp_path / f"clips/{line.split()[0]}.wav"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, 0.1 * generator.standard_normal(4000), 16000)
            lines.append(f"{line.split()[0]} clips/{path.name}\n")  # as from the recipe's folder
        (dump / name / "wav.scp").write_text("".join(lines))
    page, figures = hear(exp, dump)
    titles = [re.search(r"<figcaption>(\w+), (\S+): (\d+) → (\d+)", f).groups() for f in figures]
    changes = [int(after) - int(before) for _, _, before, after in titles]
    assert [name[:3] for name, *_ in titles] == ["ret", "ret", "tes", "tes"]
    assert changes[0] >= changes[1] > 0 > changes[3] >= changes[2]
    for (_, uid, _, _), figure in zip(titles, figures, strict=True):
        sound = base64.b64decode(re.search(r'src="data:audio/flac;base64,([^"]+)"', figure)[1])
        heard, rate = soundfile.read(io.BytesIO(sound), dtype="int16")
        wanted, _ = soundfile.read(tmp_path / f"clips/{uid}.wav", dtype="int16")
        assert rate == 16000 and np.array_equal(heard, wanted)
        assert figure.count("<dt>") == 3 and "<mark>" in figure
    assert "media-src data:" in page
    _, figures = hear(exp, dump, "--no_audio")
    assert len(figures) == 4 and not any("<audio" in figure for figure in figures)


def test_without_audio_at_hand_there_are_words_alone(finished_tree):
    page = (finished_tree / "retention.html").read_text(encoding="utf-8")
    assert page.count('<figure class="heard">') == 4 and "<audio" not in page


def test_the_page_begins_with_what_was_compared(finished_tree):
    page = (finished_tree / "retention.html").read_text(encoding="utf-8")
    intro = re.search(r'<p class="intro">(.*?)</p>', page, re.DOTALL)[1]
    assert page.index('class="intro"') < page.index('class="headline"')
    for said in ("base", "LoRA", "BLoRA", *SETS):
        assert said in intro
