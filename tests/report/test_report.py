"""The whole report on a small tree of experiments."""

import json
import re
import shutil

import matplotlib.image
import pytest

from espnet_blora.bin.report import main
from espnet_blora.report import build
from espnet_blora.report.build import parse_kappa
from espnet_blora.report.page import table_markdown
from espnet_blora.scoring import score

SETS = ["--test_sets", "test_cs", "--retention_sets", "ret_en ret_zh"]


def tables_are_whole(text):
    """Every row of every table has as many cells as its head."""
    blocks = re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    for block in blocks:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.strip().split("\n")}
        assert len(widths) == 1, block
    return len(blocks)


PLOTTED = ("test_what_is_missing_is_said", "test_an_empty_tree_gives_a_report_that_says_so")


@pytest.fixture(autouse=True)
def words_alone(request, monkeypatch):
    """Pictures take most of a report's time; `finished_tree` and two of these tests have them."""
    if request.function.__name__ not in PLOTTED:
        monkeypatch.setattr(build, "PLOTS", {})


def test_the_page(finished_tree):
    text = (finished_tree / "retention.md").read_text(encoding="utf-8")
    assert tables_are_whole(text) == 26
    for said in (
        "(E_adapted - E_base) / E_base",
        "|test_cs|new|60|540|MER, basic|",
        "(E_LoRA - E_BLoRA) / E_LoRA",
        "basic (NFKC, case folded",
        "1,024 of 102,400|1.00 %|0.250",
        "`benchmarks/adapter_step.py`",  # where steps are timed so that they can be compared
        "|LoRA|adapter's scale|0.7|",
        "|ret_en|spk1|",
        "LoRA, ret_en: ",
        "|backward gain of BLoRA over LoRA|",
        "|BLoRA|delta W|",
        "asr_none`): not trained\n",
        "lr 0.001, adapter lora, alpha 8, rank 4, target_modules ['query'], command: first line",
        "no sclite result.txt",
        "adapter blora",
    ):
        assert said in text, said
    assert "times LoRA's" not in text and "time of a training step" not in text
    rate = re.search(r"\|LoRA\|([\d.]+) \(([\d.]+) to ([\d.]+); 60 utt.\)", text)
    value, low, high = map(float, rate.groups())
    assert low < value < high


def test_results_have_espnets_form(finished_tree):
    text = (finished_tree / "RESULTS.md").read_text(encoding="utf-8")
    assert text.split("\n")[1:3] == ["# RESULTS", "## Environments"]
    assert "|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|\n|---|" in text
    assert re.search(r"\|decode/ret_en\|60\|420\|[\d.]+\|", text)
    assert "no sclite result" in text and "not compared: not in score.json" in text
    assert tables_are_whole(text) == 6


def test_plots_are_pictures(finished_tree):
    for name in ("retention_scatter.png", "retention_bars.png", "retention_sparsity.png"):
        picture = matplotlib.image.imread(finished_tree / name)
        assert min(picture.shape[:2]) > 250 and picture[..., :3].std() > 0.05


def test_the_html_page_stands_alone_and_says_the_same(finished_tree):
    text = (finished_tree / "retention.html").read_text(encoding="utf-8")
    page = (finished_tree / "retention.md").read_text(encoding="utf-8")
    assert text.count("<svg role=") == 6 and len(text) < 1_000_000
    assert not re.search(r'(?:src|href)="(?!#)', text)
    for title in re.findall(r"^## (.*)$", page, re.MULTILINE):
        assert f"<h2>{title}</h2>" in text
    rate = re.search(r"\|LoRA\|([\d.]+ \([\d.]+ to [\d.]+; 60 utt.\))", page)[1]
    assert f">{rate}</td>" in text and "<mark>" in text


def test_what_is_missing_is_said(finished_tree, tmp_path):
    exp = tmp_path / "exp"
    shutil.copytree(finished_tree, exp)
    shutil.rmtree(exp / "asr_blora")
    (exp / "asr_lora" / "scale_sweep.json").unlink()
    (exp / "asr_lora" / "valid.acc.best.pth").unlink()
    assert main(["--exp", str(exp), "--dump", str(tmp_path), *SETS]) == 0
    text = (exp / "retention.md").read_text(encoding="utf-8")
    for said in (
        "asr_blora does not exist",
        "no scale_sweep.json",
        "**not shown**",
        "retention_sparsity.png was not drawn",
        "file size and sparsity are unknown",
        "is not there any more",
    ):
        assert said in text, said
    assert not (exp / "retention_sparsity.png").exists()  # that of the first run would mislead
    assert "does not exist" in (exp / "RESULTS.md").read_text(encoding="utf-8")


def test_a_tag_names_the_three_experiments(finished_tree, tmp_path):
    for name in ("none", "lora", "blora"):
        (tmp_path / f"asr_{name}_turbo").symlink_to(finished_tree / f"asr_{name}")
    assert main(["--exp", str(tmp_path), "--dump", str(tmp_path), "--tag", "turbo", *SETS]) == 0
    text = (tmp_path / "retention.md").read_text(encoding="utf-8")
    assert "asr_blora_turbo" in text and "No verdict on BLoRA against LoRA" in text


def test_any_experiments_with_labels_seeds_and_pairs(finished_tree, tmp_path):
    for name, source in (("none", "none"), ("a_seed1", "lora"), ("a_seed2", "blora")):
        (tmp_path / f"asr_{name}").symlink_to(finished_tree / f"asr_{source}")
    (tmp_path / "asr_b").symlink_to(finished_tree / "asr_blora")
    words = ["asr_a", "asr_b", "--exp", str(tmp_path), "--dump", str(tmp_path), *SETS]
    # the same folder twice, behind two links, is read once: b and a_seed2 are one
    assert main([*words, "--labels", "asr_a=A <x>", "--compare", "asr_a:asr_none"]) == 0
    page = (tmp_path / "retention.md").read_text(encoding="utf-8")
    assert "(mean of 2 seeds)" in page and "## A &lt;x&gt; against base" in page
    assert "training seeds: A \\<x> 2. Rates are means over seeds" in page
    assert "<x>" not in (tmp_path / "retention.html").read_text(encoding="utf-8")
    assert main([*words, "--compare", "asr_a:asr_q"]) == 2


def test_a_sweep_of_some_sets_is_not_said_to_be_missing(finished_tree, tmp_path):
    exp = tmp_path / "exp"
    shutil.copytree(finished_tree, exp)
    for path in exp.glob("*/scale_sweep.json"):
        rows = json.loads(path.read_text("utf-8"))
        path.write_text(json.dumps([row for row in rows if row["set"] != "ret_zh"]), "utf-8")
    assert main(["--exp", str(exp), "--dump", str(tmp_path), *SETS]) == 0
    assert "no scale sweep of all these sets" in (exp / "retention.md").read_text("utf-8")


def test_another_treatment_is_a_warning_at_the_head(finished_tree, tmp_path):
    exp = tmp_path / "exp"
    shutil.copytree(finished_tree, exp)
    ref = {f"s-ret_en-{n:03d}": "a b" for n in range(60)}
    score(ref, ref, normalisation="none").save(
        exp / "asr_lora" / "decode" / "ret_en" / "score_blora" / "score.json"
    )
    assert main(["--exp", str(exp), "--dump", str(tmp_path), *SETS]) == 0
    for name in ("retention.md", "retention.html"):
        text = (exp / name).read_text(encoding="utf-8")
        warning = text.index("LoRA, ret_en: its decoding was scored as MER, none")
        assert warning < text.index("At a glance")
    rows = (exp / "retention.csv").read_text(encoding="utf-8").splitlines()
    assert [r for r in rows if ",no," in r] == [
        r for r in rows if ",asr_lora,lora,ret_en,retention,recipe," in r
    ]
    results = (exp / "RESULTS.md").read_text(encoding="utf-8")
    assert "MER, normalisation none" in results  # each treatment has its own table there


def test_a_part_of_a_published_set_is_a_box_at_the_head(finished_tree, tmp_path):
    exp = tmp_path / "exp"
    shutil.copytree(finished_tree, exp)
    for name in ("asr_none", "asr_lora", "asr_blora"):
        path = exp / name / "decode" / "test_cs" / "score_blora" / "score.json"
        document = json.loads(path.read_text("utf-8"))
        size = {"utterances": 6531, "hours": 7.49, "source": "README of the split"}
        path.write_text(json.dumps({**document, "published": size}), "utf-8")
    assert main(["--exp", str(exp), "--dump", str(tmp_path), *SETS]) == 0
    for name in ("retention.md", "retention.html"):
        text = (exp / name).read_text(encoding="utf-8")
        box = text.index("test_cs: 60 of 6,531 utterances (README of the split) was scored")
        assert box < text.index("At a glance") and text.count("of 6,531") == 1


def make_older(exp, *names):
    """Turn the scores of experiments into ones of an older release."""
    for path in (p for name in names for p in exp.glob(f"{name}/decode/*/score_blora/score.json")):
        path.write_text(path.read_text("utf-8").replace("score/3", "score/2"), "utf-8")


def test_scores_of_an_older_release_leave_the_page_as_it_is(finished_tree, tmp_path, capsys):
    exp = tmp_path / "exp"
    shutil.copytree(finished_tree, exp)
    make_older(exp, "asr_lora", "asr_none", "asr_blora")
    before = {path: path.read_bytes() for path in exp.iterdir() if path.is_file()}
    assert main(["--exp", str(exp), "--dump", str(tmp_path), *SETS]) == 2
    error = capsys.readouterr().err
    assert "9 scores are of an older release: run stage 13 again (run.sh --stage 13)" in error
    assert {path: path.read_bytes() for path in exp.iterdir() if path.is_file()} == before


def test_some_scores_of_an_older_release_are_told_at_the_head(finished_tree, tmp_path):
    exp = tmp_path / "exp"
    shutil.copytree(finished_tree, exp)
    make_older(exp, "asr_lora")
    assert main(["--exp", str(exp), "--dump", str(tmp_path), *SETS]) == 0
    text = (exp / "retention.md").read_text(encoding="utf-8")
    assert text.index("3 scores are of an older release: run stage 13") < text.index("At a glance")
    assert "Error(" not in text


def know(dump, *names):
    """Make sets that are there and that nobody has scored."""
    for name in names:
        (dump / name).mkdir()
        (dump / name / "text").write_text("u a\n")


@pytest.mark.parametrize("place", ["test", "retention"])
def test_a_misspelt_set_is_refused_before_anything_is_written(
    finished_tree, tmp_path, capsys, place
):
    exp = tmp_path / "exp"
    shutil.copytree(finished_tree, exp)
    before = {path: path.read_bytes() for path in exp.iterdir() if path.is_file()}
    sets = [f"--{place}_sets", "test_cs ret_eng" if place == "test" else "ret_eng"]
    sets += [] if place == "test" else SETS[:2]
    assert main(["--exp", str(exp), "--dump", str(tmp_path), *sets]) == 2
    error = capsys.readouterr().err
    assert error.startswith("report: error: ret_eng: no") and "did you mean 'ret_en' or" in error
    assert {path: path.read_bytes() for path in exp.iterdir() if path.is_file()} == before


def test_an_empty_tree_gives_a_report_that_says_so(tmp_path):
    know(tmp_path, "test_cs", "ret_en", "ret_zh")
    assert main(["--exp", str(tmp_path), "--dump", str(tmp_path), *SETS]) == 0
    for name in ("retention.md", "retention.html"):
        assert "Nothing can be said yet" in (tmp_path / name).read_text(encoding="utf-8")
    assert not list(tmp_path.glob("*.png")) and (tmp_path / "retention.csv").stat().st_size < 300


def test_without_a_retention_set_the_gains_stand(finished_tree, tmp_path):
    for name in ("none", "lora", "blora"):
        (tmp_path / f"asr_{name}").symlink_to(finished_tree / f"asr_{name}")
    sets = ["--test_sets", "test_cs", "--retention_sets", ""]
    assert main(["--exp", str(tmp_path), "--dump", str(tmp_path), *sets]) == 0
    for name in ("retention.md", "retention.html"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert text.index("Forgetting was not measured") < text.index("New domain: test_cs.")
        assert "Nothing can be said" not in text and "was not measured: no retention set" in text
        assert "learnt); what it forgot was not measured." in text
    # in red
    assert '<p class="warning" role="alert"><strong>Warning.</strong> Forgetting was not' in text
    whole = (finished_tree / "retention.md").read_text(encoding="utf-8")
    rates = re.findall(r"\|B?LoRA\|([\d.]+ \([\d.]+ to [\d.]+; 60 utt.\))\|", whole)
    assert len(rates) >= 2
    for rate in rates:
        assert rate in (tmp_path / "retention.md").read_text(encoding="utf-8")


def test_the_scored_sets_and_experiments_are_found(finished_tree, tmp_path, capsys):
    for name in ("none", "lora", "blora"):
        (tmp_path / f"asr_{name}_tiny").symlink_to(finished_tree / f"asr_{name}")
    bare = ["--exp", str(tmp_path), "--dump", str(tmp_path)]
    # without test sets the scored sets are listed, or where they are
    assert main([*bare, "--tag", "tiny"]) == 2
    assert ": ret_en ret_zh test_cs" in capsys.readouterr().err
    assert main(bare) == 2
    assert "asr_lora_tiny (--tag tiny: ret_en ret_zh test_cs)" in capsys.readouterr().err
    # names that are not there
    assert main([*bare, *SETS]) == 0
    text = (tmp_path / "retention.md").read_text(encoding="utf-8")
    listed = text.index("asr_blora_tiny (--tag tiny: ")
    assert text.index("Not in ") < listed < text.index("Nothing can be said yet")
    # the other scored sets are the retention sets
    assert main([*bare, "--tag", "tiny", "--test_sets", "test_cs"]) == 0
    text = (tmp_path / "retention.md").read_text(encoding="utf-8")
    assert "could do before: ret_en, ret_zh." in text and "--tag tiny:" not in text


def test_bare_report_takes_the_sets_that_were_scored(finished_tree, tmp_path, monkeypatch):
    """Stage 13 leaves the names of the new domain's sets; all others are retention sets."""
    monkeypatch.chdir(tmp_path)
    for name in ("none", "lora", "blora"):
        shutil.copytree(finished_tree / f"asr_{name}", tmp_path / "exp" / f"asr_{name}")
    (tmp_path / "exp" / "asr_lora" / "decode" / "test_sets").write_text("test_cs\n")
    assert main([]) == 0
    text = (tmp_path / "exp" / "retention.md").read_text(encoding="utf-8")
    assert (
        "New domain: test_cs. Retention sets, what the base could do before: ret_en, ret_zh."
        in text
    )


def test_a_set_that_nobody_scored_is_named_and_left_out(finished_tree, tmp_path):
    exp = tmp_path / "exp"
    exp.mkdir()
    for name in ("none", "lora", "blora"):
        (exp / f"asr_{name}").symlink_to(finished_tree / f"asr_{name}")
    know(tmp_path, "ret_xx")
    sets = ["--test_sets", "test_cs", "--retention_sets", "ret_en ret_zh ret_xx"]
    assert main(["--exp", str(exp), "--dump", str(tmp_path), *sets]) == 0
    text = (exp / "retention.md").read_text(encoding="utf-8")
    whole = (finished_tree / "retention.md").read_text(encoding="utf-8")
    assert "Left out: ret_xx, no experiment has a score of it." in text
    figures = [line for line in whole.splitlines() if line.startswith(("- **", "|backward gain|"))]
    assert len(figures) > 5 and all(line in text for line in figures)
    # with none left, forgetting was not measured
    assert main(["--exp", str(exp), "--dump", str(tmp_path), *sets[:3], "ret_xx"]) == 0
    text = (exp / "retention.md").read_text(encoding="utf-8")
    assert "Forgetting was not measured: none of ret_xx is scored" in text


def test_a_tree_with_only_the_base(finished_tree, tmp_path):
    (tmp_path / "asr_none").symlink_to(finished_tree / "asr_none")
    assert main(["--exp", str(tmp_path), "--dump", str(tmp_path), *SETS]) == 0
    text = (tmp_path / "retention.html").read_text(encoding="utf-8")
    assert "Scored here: base." in text and "retention_bars" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--exp", "nowhere", *SETS], "nowhere: no such folder"),
        (["--exp", ".", "--test_sets", "a", "--retention_sets", "a"], "none twice"),
        (["--exp", "."], "--test_sets needs at least one set"),
        (["--exp", ".", "--retention_sets", "a"], "Scored in .: nothing"),
        (["--exp", ".", *SETS, "--kappa", "x"], "give one number"),
        (["--exp", ".", *SETS, "--kappa", "nan"], "must be > 0 and finite"),
        (["--exp", ".", *SETS, "--compare", "a"], "give pairs A:B"),
        (["--exp", ".", *SETS, "--labels", "x"], "give NAME=LABEL; there are: asr_blora"),
        (["--exp", ".", *SETS, "--group", "x=y"], "y: no such experiment here"),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("report: error: ") and error.count("\n") == 1
    assert message in error and not list(tmp_path.iterdir())


def test_conditions_alone_need_no_sets(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["--conditions"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [re.fullmatch(r"- ([\w -]+): .+", line)[1] for line in lines]
    assert {"date", "machine", "python", "espnet_blora", "espnet", "torch", "Git hash"} <= {*names}
    assert not list(tmp_path.iterdir())


def test_kappa():
    assert parse_kappa("2", ["a", "b"]) == {"a": 0.02, "b": 0.02}
    assert parse_kappa("a=1 b=3", ["a", "b"]) == {"a": 0.01, "b": 0.03}
    for text in ("a=1", "a=1 b=2 c=3", "0", "-1"):
        with pytest.raises(ValueError, match="kappa"):
            parse_kappa(text, ["a", "b"])


def test_tables():
    assert table_markdown(["a|b", "c"], [["1", "<|"]]) == "|a\\|b|c|\n|---|---|\n|1|&lt;\\||"
    with pytest.raises(ValueError, match="row of 1 cells"):
        table_markdown(["a", "b"], [["1"]])
