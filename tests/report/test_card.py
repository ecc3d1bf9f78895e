"""The model card: Hugging Face reads its head, its figures are the report's."""

import shutil

import pytest
import yaml

from espnet_blora.bin import card
from espnet_blora.scoring import SetScore
from tests.report.conftest import SETS


@pytest.fixture
def exp(finished_tree, tmp_path):
    shutil.copytree(finished_tree, tmp_path / "exp")
    return tmp_path / "exp"


def made(exp, *words, name="asr_blora", test_sets="test_cs"):
    options = ["--license", "cc-by-4.0", "--test_sets", test_sets, *words]
    assert card.main([str(exp / name), *options]) == 0
    return (exp / name / "README.md").read_text(encoding="utf-8")


def rate(exp, experiment, name):
    place = exp / experiment / "decode" / name / "score_blora/score.json"
    return 100 * SetScore.load(place).rate


def test_the_hub_reads_its_head(exp):
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard(made(exp, "--base_model", "openai/whisper-small", "--repo", "lab/cs")).data
    assert (data.license, data.base_model) == ("cc-by-4.0", "openai/whisper-small")
    assert (data.pipeline_tag, data.model_name) == ("automatic-speech-recognition", "cs")
    assert set(data.language) == {"en", "zh"}
    assert "blora" in data.tags
    found = {result.dataset_name: result for result in data.eval_results}
    assert list(found) == list(SETS)
    for name, result in found.items():
        assert result.metric_value == pytest.approx(rate(exp, "asr_blora", name), abs=0.005)
        assert result.metric_type == "mixed_error_rate"


def test_its_tables_have_base_and_adapted_and_what_was_forgotten(exp):
    text = made(exp)
    for name in SETS:
        rows = [line for line in text.splitlines() if line.startswith(f"|{name}|")]
        row = next(line for line in rows if "MER" in line)
        assert f"|{rate(exp, 'asr_none', name):.1f} (" in row
        assert f"|{rate(exp, 'asr_blora', name):.1f} (" in row
    points = rate(exp, "asr_blora", "ret_en") - rate(exp, "asr_none", "ret_en")
    assert f"|ret_en|{points:+.1f}|" in text
    assert "1,024 of 102,400 (1.00 %)" in text
    assert "information needed" not in text.lower()
    for reader in (
        "WhisperForConditionalGeneration",
        "faster_whisper",
        "load_model",
        "Speech2Text",
    ):
        assert reader in text


def test_what_is_not_known_is_left_out(exp):
    shutil.rmtree(exp / "asr_none")
    text = made(exp, "--retention_sets", "")
    head = yaml.safe_load(text.split("---")[1])
    assert "base_model" not in head
    assert "**Forgetting was not measured**" in text


def test_the_base_has_the_same_ending(exp):
    for name in ("asr_none", "asr_blora"):
        shutil.copytree(exp / name, exp / f"{name}_small_x")
    shutil.rmtree(exp / "asr_none_small_x/decode/ret_zh")
    text = made(exp, name="asr_blora_small_x")
    assert f"|{rate(exp, 'asr_none', 'ret_en'):.1f} (" in text
    assert f"|{rate(exp, 'asr_none', 'ret_zh'):.1f} (" not in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["asr_blora", "--license", "mit"], "ret_en ret_zh test_cs"),
        (["asr_blora", "--test_sets", "test_cs"], "--license"),
        (["asr_dora", "--license", "mit", "--test_sets", "test_cs"], "asr_dora"),
        (["asr_blora", "--license", "mit", "--test_sets", "no_such"], "no_such"),
    ],
)
def test_mistakes(exp, capsys, words, said):
    name, *rest = words
    try:
        status = card.main([str(exp / name), "--retention_sets", "", *rest])
    except SystemExit as exit:
        status = exit.code
    assert status == 2
    assert said in capsys.readouterr().err
    assert not (exp / name / "README.md").exists()
