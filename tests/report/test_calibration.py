"""The section on calibration: what experiments left, as tables, sentences and plots."""

import json
import re
import shutil

import matplotlib.image
import pytest

from espnet_blora.bin.report import main
from espnet_blora.report.build import PLOTS, RELIABILITY, RISK
from espnet_blora.report.calibration import (
    Confident,
    collect_confidences,
    examined_blocks,
    mean_curve,
    number,
    pooled,
    section,
    seeds_cell,
    seeds_difference,
    sentence,
    written,
)
from espnet_blora.report.calibration_plots import (
    Panel,
    plot_reliability,
    plot_risk,
)
from espnet_blora.report.collect import Texts
from espnet_blora.report.estimates import analyse
from espnet_blora.report.experiments import Experiment, make_systems
from espnet_blora.report.page import blocks_markdown
from espnet_blora.scoring import Interval
from espnet_blora.scoring.calibration.compare import Difference, Estimate, examine
from espnet_blora.scoring.calibration.words import Recognised, label_tokens
from tests.scoring.calibration.test_compare import simulated

SETS = ["--test_sets", "test_cs", "--retention_sets", "ret_en ret_zh"]
TITLE = "Does it know when it is wrong?"


def examined(seed=1, utterances=40):
    """A calibrated system and an overconfident one on the same utterances."""
    systems = [
        (n, label_tokens(*simulated(seed, utterances, power=p))) for n, p in (("a", 1), ("b", 3))
    ]
    return examine(systems, samples=100)


@pytest.fixture(scope="module")
def two():
    return examined()


def leave_words(folder, ref, confidence=0.9):
    """Write a words.jsonl in which every recognised word has one confidence."""
    folder.mkdir(parents=True)
    with (folder / "words.jsonl").open("w", encoding="utf-8") as file:
        for key, text in ref.items():
            heard = text.split()[:-1] if key.endswith("3") else text.split()
            words = [{"word": word, "confidence": confidence} for word in heard]
            line = {"utterance": key, "text": " ".join(heard), "words": words}
            file.write(json.dumps({**line, "confidence": len(heard) / 9}) + "\n")


def test_figures_are_written_in_their_units():
    assert written("ece", Estimate(0.123, Interval(0.1, 0.15))) == "12.3 (10.0 to 15.0)"
    assert written("brier", Estimate(0.1234, Interval(0.1, 0.2)), sign=True) == (
        "+0.123 (+0.100 to +0.200)"
    )
    assert written("auroc", Estimate(None)) == written("auroc", None) == "–"
    assert written("nll", Estimate(0.5)) == "0.500"
    assert [number("mer", -0.0001), number("nll", -0.0001, sign=True)] == ["0.0", "+0.000"]
    assert number("mer", -0.001) == "-0.1"


def test_the_sentence_says_which_way_it_is_wrong(two):
    fair, over = two.systems
    assert re.fullmatch(
        r"\*\*a\*\*: mean confidence of its words [\d.]+ %, [\d.]+ % of them are right: "
        r"as right as it says, as "
        r"far as this set can tell; keeping the surest 80 % of what was said takes the error rate "
        r"from [\d.]+ to [\d.]+ %",
        sentence("a", [fair]),
    )
    assert ": overconfident by 2" in sentence("b", [over, over])
    words = tuple((f"w{n}", 0.25) for n in range(20))
    said = " ".join(word for word, _ in words)
    meek = label_tokens({"u": said}, {"u": Recognised(said, words, 0.1, {})})
    assert "underconfident by 75.0 points" in sentence("c", examine([("c", meek)]).systems)
    silent = label_tokens({"u": "a"}, {"u": Recognised("", (), 0.1, {})})
    assert sentence("d", examine([("d", silent)]).systems) == "d: no word was recognised"


def test_all_figures_of_systems_on_one_set(two):
    text = "\n".join(blocks_markdown(examined_blocks(two)))
    for said in ("|figure|a|b|", "|deleted (no confidence)|0|0|", "|b − a|", "ECE by chance"):
        assert said in text
    assert "data" not in re.findall(r"^\|risk-coverage area, (\w+), %", text, re.MULTILINE)
    assert "100 bootstrap draws of utterances" in text


def test_seeds_are_means_with_spread_and_differences_that_say_in_how_many(two):
    fair, over = two.systems
    assert seeds_cell("ece", [fair]).text == written("ece", fair.estimates["ece"])
    assert re.fullmatch(r"[\d.]+ ± [\d.]+", seeds_cell("ece", [fair, over]).text)
    assert seeds_cell("area_data", [fair]).text == "–"
    (worse,) = two.differences  # b - a
    value, ends = worse.estimates["ece"].value, worse.estimates["ece"].interval
    turned = {"ece": Estimate(-value, Interval(-ends.high, -ends.low))}
    both = seeds_difference("ece", [worse, worse])
    assert both.text.endswith("; clear in 2 of 2)") and both.tone == "bad"
    mixed = seeds_difference("ece", [worse, Difference("a", "b", turned)])
    assert mixed.tone == "" and mixed.text.startswith("+0.0 (-")
    assert seeds_difference("ece", [worse]).text == written("ece", worse.estimates["ece"], True)
    assert seeds_difference("auroc", []).text == "–"


def test_the_section_of_several_seeds(two, tmp_path):
    system = make_systems([Experiment(f"x_seed{n}", tmp_path, "other", "X") for n in (1, 2)])[0]
    fair, over = two.systems
    (difference,) = two.differences  # b - a
    one = Confident(system, "test_cs", {"a": [fair, fair], "b": [over, over]})
    one.differences["b", "a"] = [difference, difference]
    text = "\n".join(blocks_markdown(section([one], [])))
    assert "means ± standard deviation over seeds" in text and "clear in 2 of 2" in text
    assert re.search(r"\|x, b\|test\\?_cs\|320\|0\|[\d.]+ ± 0.0\|", text)
    assert re.search(r"\|x: b − a\|test\\?_cs\|\+[\d.]+ \(", text)
    assert ": as right as it says, as far as this set can tell; keeping" in text
    assert "least NLL" not in text  # the first has it
    assert "order by" not in text  # no draws disagree
    turned = Confident(system, "test_cs", {"b": [over], "a": [fair]})
    assert "Of 2 ways **a** has the least NLL" in "\n".join(blocks_markdown(section([turned], [])))


def test_bins_and_curves_of_seeds_are_put_together(two):
    fair, over = two.systems
    both = pooled([fair, over])
    assert [b.count for b in both] == [
        x.count + y.count for x, y in zip(fair.bins, over.bins, strict=True)
    ]
    last, one, other = both[-1], fair.bins[-1], over.bins[-1]
    right = one.count * one.accuracy + other.count * other.accuracy
    assert last.accuracy == pytest.approx(right / last.count)
    again = pooled([fair, fair])[-1].interval  # seeds are no further words
    assert again.low == pytest.approx(one.interval.low)
    curve = mean_curve([fair, over], "confidence")
    assert curve[-1] == pytest.approx(
        (fair.estimates["mer"].value + over.estimates["mer"].value) / 2
    )


@pytest.mark.parametrize("count", [1, 2])
def test_plots_are_pictures(two, tmp_path, count):
    systems = two.systems
    reliability = [Panel(f"set {n}", {s.name: s.bins for s in systems}) for n in range(count)]
    risk = [
        Panel(f"set {n}", {s.name: s.curves["confidence"] for s in systems}) for n in range(count)
    ]
    for name, plot, panels in (("a", plot_reliability, reliability), ("b", plot_risk, risk)):
        made = plot(tmp_path / f"{name}.png", panels)
        picture = matplotlib.image.imread(tmp_path / f"{name}.png")
        assert min(picture.shape[:2]) > 400 and picture[..., :3].std() > 0.05
        for svg in (made.wide, made.narrow):
            assert svg.count("var(--blue)") > 0 and svg.count("var(--vermillion)") > 0
            assert svg.count(">set 0<") == 1


def test_equal_curves_are_drawn_once_and_colours_stay(two, tmp_path):
    a, b = (list(s.curves["confidence"]) for s in two.systems)
    made = plot_risk(tmp_path / "a.png", [Panel("set", {"a": a, "mapped": list(a), "b": b})])
    assert ">mapped<" not in made.wide and ">b<" in made.wide
    assert "var(--green)" in made.wide and "var(--vermillion)" not in made.wide


def test_nothing_to_draw_is_no_picture(tmp_path):
    silent = label_tokens({"u": ""}, {"u": Recognised("", (), 0.1, {})})
    one = examine([("d", silent)]).systems[0]
    assert plot_reliability(tmp_path / "a.png", [Panel("s", {"d": one.bins})]) is None
    assert plot_risk(tmp_path / "a.png", [Panel("s", {"d": one.curves["confidence"]})]) is None
    assert list(tmp_path.iterdir()) == []


def test_a_report_without_confidences_says_nothing_of_them(finished_tree):
    assert TITLE not in (finished_tree / "retention.md").read_text("utf-8")
    assert TITLE not in (finished_tree / "retention.html").read_text("utf-8")
    assert not any((finished_tree / name).exists() for name in [RELIABILITY, RISK])


@pytest.fixture
def tree(finished_tree, tmp_path):
    """A copy of the tree, and references of two of its sets."""
    exp, dump = tmp_path / "exp", tmp_path / "dump"
    shutil.copytree(finished_tree, exp)
    refs = {}
    for name in ("test_cs", "ret_en"):
        refs[name] = {f"u{n}": "one two three four five six seven eight nine" for n in range(9)}
        (dump / name).mkdir(parents=True)
        lines = [f"{key} {text}\n" for key, text in refs[name].items()]
        (dump / name / "text").write_text("".join(lines), "utf-8")
    return exp, dump, refs


def test_the_report_shows_what_experiments_left(tree):
    exp, dump, refs = tree
    for name in [RELIABILITY, RISK]:
        (exp / name).write_text("old")
    for kind, p in (("samples8", 0.95), ("mean", 0.6)):
        leave_words(exp / "asr_blora" / "confidence" / kind / "test_cs", refs["test_cs"], p)
    found = examined()
    (exp / "asr_lora" / "confidence" / "all" / "ret_en").mkdir(parents=True)
    found.save(exp / "asr_lora" / "confidence" / "all" / "ret_en" / "calibration.json")
    for kind in ("twice", "x"):
        (exp / "asr_lora" / "confidence" / kind / "ret_en").mkdir(parents=True)
    found.save(exp / "asr_lora" / "confidence" / "twice" / "ret_en" / "calibration.json")
    (exp / "asr_lora" / "confidence" / "x" / "ret_en" / "calibration.json").write_text("{")
    leave_words(exp / "asr_lora" / "confidence" / "mean" / "ret_zh", {"u1": "a b"})
    assert main(["--exp", str(exp), "--dump", str(dump), *SETS]) == 0
    page, html = ((exp / f"retention.{kind}").read_text("utf-8") for kind in ("md", "html"))
    part = page[page.index(f"## {TITLE}") : page.index("## Cost")]
    assert f"<h2>{TITLE}</h2>" in html and html.count("<svg role=") == 10
    for said in (
        "|BLoRA, mean|test\\_cs|80|1|",
        "|BLoRA: samples8 − mean|test\\_cs|",
        "|LoRA, b|ret\\_en|",
        "|LoRA: b − a|ret\\_en|",
        "**BLoRA, test_cs, mean**: mean confidence of its words 60.0 %, 100.0 % of them are right",
        f"]({RELIABILITY})",
        f"]({RISK})",
        "not what espnet-blora calibrate writes",
        "LoRA, ret_zh: confidences, but no references",
    ):
        assert said in part.replace("test_cs|", "test\\_cs|").replace("ret_en|", "ret\\_en|"), said
    assert part.count("LoRA: b − a|ret") == 1 and "standard deviation over seeds" not in part
    for name in [RELIABILITY, RISK]:
        assert matplotlib.image.imread(exp / name).shape[0] > 300


def test_confidences_that_do_not_fit_are_noted_and_old_plots_removed(tree):
    exp, dump, _ = tree
    leave_words(exp / "asr_blora" / "confidence" / "mean" / "test_cs", {"other": "a b"})
    run = Experiment("asr_blora", exp / "asr_blora", "blora", "BLoRA")
    found = analyse(make_systems([run]), ["test_cs"], ["ret_en"])
    made, notes = collect_confidences(found, Texts(dump))
    assert made == [] and len(notes) == 1
    assert "confidences are not shown: 9 of 9 references have no hypothesis" in notes[0]
    for name in [RELIABILITY, RISK]:
        (exp / name).write_text("old")
        assert PLOTS[name](exp / name, found, made) is None
    assert main(["--exp", str(exp), "--dump", str(dump), *SETS]) == 0
    assert not any((exp / name).exists() for name in [RELIABILITY, RISK])
    assert [type(b).__name__ for b in section(made, [], notes)] == ["Bullets"]
    assert section(made, []) == []
