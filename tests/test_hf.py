"""transformers' own trainer trains an adapter: loss, schedule, checkpoints, resume, files."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import espnet_blora
from espnet_blora.export.hf import to_hf
from espnet_blora.hf import AdapterCallback
from espnet_blora.whisper.checkpoint import load_whisper

transformers = pytest.importorskip("transformers")
ROOT = Path(__file__).resolve().parents[1]
(BASE,) = (ROOT / "egs2/mini_cs/asr1/base").glob("*.safetensors")
BLORA = {"preset": "any_size", "rank": 4, "target_modules": ["q_proj", "v_proj"]}
WARM = {**BLORA, "schedule": "linear", "warmup_steps": 10, "log_every": 1}


def base():
    model = to_hf(load_whisper(str(BASE)))
    del model.model.encoder.layers[1:], model.model.decoder.layers[1:]  # seconds, not minutes
    model.config.encoder_layers = model.config.decoder_layers = 1
    return model


def adapted(method="blora", **options):
    model = base()
    return model, espnet_blora.add_adapter(model, method, **(options or BLORA))


@pytest.fixture(scope="module")
def examples():
    generator = torch.Generator().manual_seed(5)
    return [
        {
            "input_features": torch.randn(80, 3000, generator=generator),
            "labels": torch.randint(300, (6,), generator=generator),
        }
        for _ in range(8)
    ]


def trainer(folder, model, examples, callback=None, **change):
    arguments = {
        "output_dir": str(folder),
        "max_steps": 4,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "save_steps": 2,
        "logging_steps": 1,
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        **change,
    }
    return transformers.Seq2SeqTrainer(
        model,
        transformers.Seq2SeqTrainingArguments(**arguments),
        train_dataset=examples,
        eval_dataset=examples[:2],
        callbacks=[callback or AdapterCallback(model)],
    )


def factors(adapter):
    return {name: tensor.detach().clone() for name, tensor in adapter.factors().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def logits(model, examples):
    model.eval()
    with torch.no_grad():
        return model(
            input_features=examples[0]["input_features"][None], labels=torch.tensor([[7, 9]])
        ).logits


@pytest.fixture(scope="module")
def trained(tmp_path_factory, examples):
    """Four updates of two micro-batches each, under a warm-up of the KL over ten updates."""
    folder = tmp_path_factory.mktemp("whole")
    torch.manual_seed(0)
    model, adapter = adapted(**WARM)
    seen = []
    model.register_forward_pre_hook(
        lambda module, args, batch: seen.append(batch) if module.training else None,
        with_kwargs=True,
    )
    done = trainer(folder, model, examples, eval_strategy="steps", eval_steps=2)
    done.train()
    return folder, model, adapter, done, seen


def test_it_is_the_loop_that_one_would_write(trained):
    """Means over micro-batches of loss + beta * KL, beta by update; the base keeps its bits."""
    _, model, adapter, _, seen = trained
    assert adapter.step == len(seen) == 8
    torch.manual_seed(0)
    mine, handle = adapted(**WARM)
    optimiser = torch.optim.AdamW(handle.param_groups(0.0), lr=1e-2, fused=True)
    mine.train()
    for update in range(1, 5):
        for batch in seen[2 * update - 2 : 2 * update]:
            loss = mine(**batch).loss
            ((loss + handle.loss_terms(update)[0]) / 2).backward()
        torch.nn.utils.clip_grad_norm_(handle.trainable_parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    assert same(factors(adapter), factors(handle))
    state = model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in base().state_dict().items())


def test_the_log_has_the_term_by_update(trained):
    logged = [row for row in trained[3].state.log_history if "loss" in row]
    assert [row["beta"] for row in logged] == pytest.approx([0.1, 0.2, 0.3, 0.4])  # of 1
    assert all(row["kl_A"] > 0 and "update_ratio" in row for row in logged)


def test_checkpoints_hold_the_adapter_alone(trained, examples):
    folder, model, adapter, _, _ = trained
    wanted = logits(model, examples)
    for place in (folder / "checkpoint-4", folder):
        fresh = base()
        assert not torch.equal(logits(fresh, examples), wanted)
        espnet_blora.load_adapter(fresh, place / "adapter.safetensors")
        assert torch.equal(logits(fresh, examples), wanted)
    with safe_open(folder / "checkpoint-2/model.safetensors", "pt") as file:
        stored = set(file.keys())
    assert {key for key in stored if not key.startswith("adapter_state.")} == set(factors(adapter))


def test_a_training_goes_on_where_it_was(trained, examples, tmp_path, caplog):
    folder, _, adapter, _, _ = trained
    torch.manual_seed(1)
    model, resumed = adapted(**WARM)
    again = trainer(tmp_path, model, examples)
    again.train(resume_from_checkpoint=str(folder / "checkpoint-2"))
    assert "missing keys" not in caplog.text
    assert resumed.step == 8
    assert same(factors(resumed), factors(adapter))


def test_the_merged_model_is_saved_whole(trained, examples, tmp_path):
    folder = trained[0]
    model = base()
    adapter = espnet_blora.load_adapter(model, folder / "adapter.safetensors")
    AdapterCallback(model)
    merged = adapter.merge_and_unload()
    merged.save_pretrained(tmp_path)
    opened = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path)
    torch.testing.assert_close(logits(opened, examples), logits(merged, examples))


def test_a_broken_off_training_adds_the_term_once(examples, tmp_path, monkeypatch):
    model, adapter = adapted()
    stop = transformers.TrainerCallback()
    stop.on_step_end = lambda *args, **kwargs: 1 / 0
    training = trainer(tmp_path, model, examples)
    training.add_callback(stop)
    with pytest.raises(ZeroDivisionError):
        training.train()
    training.remove_callback(stop)
    count = []
    terms = adapter.__class__.loss_terms
    monkeypatch.setattr(
        adapter.__class__, "loss_terms", lambda *args: count.append(1) or terms(*args)
    )
    training.train()
    assert len(count) == 8


def test_methods_that_work_after_each_update(examples, tmp_path):
    pytest.importorskip("peft")
    options = {"rank": 4, "target_rank": 2, "total_steps": 1000, "target_modules": ["q_proj"]}
    model, adapter = adapted("adalora", **options)
    trainer(tmp_path, model, examples, max_steps=3).train()
    assert (adapter.state.context.updates, adapter.step) == (3, 6)


def test_what_it_refuses(examples, tmp_path):
    with pytest.raises(ValueError, match="add_adapter"):
        AdapterCallback(base())
    model, adapter = adapted()
    with pytest.raises(ValueError, match=r"label_smoothing_factor: 0\.1"):
        trainer(tmp_path, model, examples, label_smoothing_factor=0.1).train()
    decayed = trainer(tmp_path, model, examples, weight_decay=0.1, max_steps=1)
    with pytest.raises(ValueError, match="in 6 matrices"):
        decayed.train()
    optimiser = torch.optim.AdamW(adapter.param_groups(0.1), lr=1e-3)
    assert sum(len(group["params"]) for group in optimiser.param_groups) == 18
    decayed.optimizer = optimiser
    decayed.train()
    assert decayed.state.global_step == 1


def test_it_is_not_needed_elsewhere():
    code = "import espnet_blora.bin.transcribe, sys; assert 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
