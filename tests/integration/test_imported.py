"""What users do next with a model that was trained elsewhere: decode, sweep, repair, report."""

import json
import re
from contextlib import chdir
from pathlib import Path

import pytest
import torch
from whisper.audio import log_mel_spectrogram, pad_or_trim

from espnet_blora.decoding.dumped_set import read_set
from espnet_blora.export import hf
from espnet_blora.utils.keyed import read_keyed
from espnet_blora.whisper.checkpoint import load_whisper
from espnet_blora.whisper.vocabulary import Vocabulary
from tests.integration.conftest import TINY

pytestmark = [pytest.mark.integration, pytest.mark.timeout(2400)]
SETS = ("test_cs", "ret_en", "ret_zh")
SMALL = ("--corpus_scale", "0.05", "--nj", "1", "--inference_nj", "1")


def train(model, recipe, rate):
    """Train what may be trained on some of the recipe's utterances, as its users would."""
    vocabulary = Vocabulary.of(51865)
    with chdir(recipe):
        waves, prompts, texts = read_set(Path("dump/raw/train_cs"), vocabulary, 8)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    torch.manual_seed(0)
    for uid, wave in waves.items():
        mel, prompt = log_mel_spectrogram(pad_or_trim(wave)), prompts[uid]
        ids = torch.tensor([[*prompt, *vocabulary.encode(texts[uid]), vocabulary.eot]])
        labels = ids[:, 1:].clone()
        labels[:, : len(prompt) - 1] = -100
        out = model(input_features=mel[None], decoder_input_ids=ids[:, :-1], labels=labels)
        optimiser.zero_grad()
        out.loss.backward()
        optimiser.step()
    return model


@pytest.fixture(scope="module")
def recipe(checkout):
    """The base decoded and scored, and two models of others: a LoRA of PEFT's, and all weights."""
    from peft import LoraConfig, get_peft_model

    done = checkout.run("./run.sh", "--adapter", "none", *SMALL)
    assert done.returncode == 0, done.stdout[-6000:]
    linears = ["q_proj", "v_proj", "fc1"]
    lora = get_peft_model(
        hf.to_hf(load_whisper(str(TINY))), LoraConfig(r=4, lora_alpha=8, target_modules=linears)
    )
    train(lora, checkout.recipe, 5e-3).save_pretrained(checkout.recipe / "theirs_lora")
    whole = hf.to_hf(load_whisper(str(TINY)))
    train(whole, checkout.recipe, 2e-4).save_pretrained(checkout.recipe / "theirs_full")
    return checkout


def shell(checkout, command):
    done = checkout.run("bash", "-euo", "pipefail", "-c", f". ./path.sh; {command}")
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_decoded_swept_repaired_and_reported(recipe, kind):
    exp = recipe.recipe / f"exp/asr_{kind}_theirs"
    run = f"./run.sh --adapter {kind} --tag theirs --stage 12 --stop_stage 13 {' '.join(SMALL)}"
    shell(recipe, f"espnet-blora import theirs_{kind} exp/{exp.name} --base base/{TINY.name}")

    # Stages 12 and 13, as trained and repaired.
    shell(recipe, run)
    shell(recipe, f"{run} --keep 'ret_en ret_zh' --repair 0.5")
    for name in SETS:
        references = read_keyed(recipe.recipe / "dump/raw" / name / "text")
        assert len(references) == 10
        for tag in ("decode", "decode_repair0.5"):
            assert read_keyed(exp / tag / name / "text").keys() == references.keys()
            assert json.loads((exp / tag / name / "score_blora/score.json").read_text())
    assert (exp / "repaired_mu0.5.pth").is_file()

    # The sweep: its ends are the base and the model as it came.
    sets = f"--sets {' '.join(SETS)}"
    shell(recipe, f"espnet-blora sweep --asr_exp exp/{exp.name} {sets} --scales '0 0.3 0.6 1'")
    options = f"--scales 1 --repair '0.1 0.5' --keep exp/keep_*/*.moments --new exp/{exp.name}"
    shell(recipe, f"espnet-blora sweep --asr_exp exp/{exp.name} {sets} {options}/new.moments")
    base = recipe.recipe / "exp/asr_none/decode"
    for name in SETS:
        ends = [read_keyed(exp / f"scale_sweep/{scale}" / name / "text") for scale in (0, 1)]
        assert ends[1] == read_keyed(exp / "decode" / name / "text")
        assert ends[0].keys() == read_keyed(base / name / "text").keys()
    rows = json.loads((exp / "repair_sweep.json").read_text())
    assert {row["repair"] for row in rows} == {0.1, 0.5}

    # The report.
    sets = "--test_sets test_cs --retention_sets ret_en ret_zh"
    shell(recipe, f"espnet-blora report exp/{exp.name} --base asr_none {sets}")
    page = (recipe.recipe / "exp/retention.md").read_text()
    assert len(re.findall(rf"{kind}_theirs", page)) > 1 and "repaired" in page
