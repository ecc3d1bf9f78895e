"""The whole report on a small tree of experiments."""

import re
import shutil

import matplotlib.image
import pytest

from espnet_blora.bin.report import main, parse_kappa
from espnet_blora.report.tables import espnet_row, markdown
from espnet_blora.scoring import score

SETS = ["--test_sets", "test_cs", "--retention_sets", "ret_en ret_zh"]


def tables_are_whole(text):
    """Every row of every table has as many cells as its head."""
    blocks = re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    for block in blocks:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.strip().split("\n")}
        assert len(widths) == 1, block
    return len(blocks)


def test_the_page(finished_tree):
    text = (finished_tree / "retention.md").read_text(encoding="utf-8")
    assert tables_are_whole(text) == 7
    for said in (
        "(E_adapted - E_base) / E_base",
        "Utterances: test_cs 60, ret_en 60, ret_zh 60.",
        "(E_LoRA - E_BLoRA) / E_LoRA",
        "basic (NFKC, case folded",
        "1,024 of 102,400|1.00 %|0.250",
        "BLoRA's step takes 1.08 times LoRA's",
        "|LoRA|0.7|",
        "|BLoRA|delta W|",
        "asr_none`): not trained\n",
        "lr 0.001, adapter lora, alpha 8, rank 4, target_modules ['query'], command: first line",
        "no sclite result.txt",
        "adapter blora",
    ):
        assert said in text, said
    rate = re.search(r"\|LoRA\|([\d.]+) \(([\d.]+) to ([\d.]+)\)", text)
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
    names = ("retention_scatter.png", "retention_bars.png", "retention_sparsity.png")
    for name in names:
        picture = matplotlib.image.imread(finished_tree / name)
        assert min(picture.shape[:2]) > 400 and picture[..., :3].std() > 0.05


def test_what_is_missing_is_said(finished_tree, tmp_path):
    exp = tmp_path / "exp"
    shutil.copytree(finished_tree, exp)
    shutil.rmtree(exp / "asr_blora")
    (exp / "asr_lora" / "scale_sweep.json").unlink()
    (exp / "asr_lora" / "valid.acc.best.pth").unlink()
    assert main(["--exp", str(exp), "--dump", str(tmp_path), *SETS]) == 0
    text = (exp / "retention.md").read_text(encoding="utf-8")
    for said in (
        "There is no verdict",
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
    assert "asr_blora_turbo" in text and "There is no verdict" not in text


def test_an_empty_tree_gives_a_report_that_says_so(tmp_path):
    assert main(["--exp", str(tmp_path), "--dump", str(tmp_path), *SETS]) == 0
    assert "There is no verdict" in (tmp_path / "retention.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--exp", "nowhere", *SETS], "nowhere: no such folder"),
        (["--exp", ".", "--test_sets", "a", "--retention_sets", "a"], "none twice"),
        (["--exp", ".", *SETS, "--kappa", "x"], "give one number"),
    ],
)
def test_mistakes_are_one_line(arguments, message, caplog, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert message in caplog.text and not list(tmp_path.iterdir())


def test_kappa():
    assert parse_kappa("2", ["a", "b"]) == {"a": 0.02, "b": 0.02}
    assert parse_kappa("a=1 b=3", ["a", "b"]) == {"a": 0.01, "b": 0.03}
    for text in ("a=1", "a=1 b=2 c=3", "0", "-1"):
        with pytest.raises(ValueError, match="kappa"):
            parse_kappa(text, ["a", "b"])


def test_tables():
    assert markdown(["a|b", "c"], [["1", "|"]]) == "|a\\|b|c|\n|---|---|\n|1|\\||"
    with pytest.raises(ValueError, match="row of 1 cells"):
        markdown(["a", "b"], [["1"]])
    row = espnet_row("x", score({"1": "a b c d", "2": "e"}, {"1": "a b x", "2": "e"}))
    assert row == ["x", "2", "5", "60.0", "20.0", "20.0", "0.0", "40.0", "50.0"]
