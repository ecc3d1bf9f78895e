"""Models trained elsewhere become experiments that compute what their own reader computes."""

import importlib
import json
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from espnet_blora.bin import export
from espnet_blora.decoding import open_experiment
from espnet_blora.decoding.recogniser import open_whisper
from espnet_blora.export import hf
from espnet_blora.export.from_espnet import read_loralib
from espnet_blora.whisper.checkpoint import load_whisper, save_whisper
from espnet_blora.whisper.vocabulary import Vocabulary
from tests import experiments
from tests.whispers import lively

program = importlib.import_module("espnet_blora.bin.import")
IDS = torch.tensor([[*Vocabulary.of(51865).prompt("zh"), 17, 400]])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "lively.safetensors"
    save_whisper(lively(), path, dtype=torch.float32)
    return str(path)


def run(*words):
    return program.main([*map(str, words), "--threads", "1"])


def mel():
    return torch.randn(1, 80, 3000, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def logits(model):
    if hasattr(model, "base_model"):  # of PEFT or transformers
        return model(input_features=mel(), decoder_input_ids=IDS).logits
    return model.decoder(IDS, model.encoder(mel()))


def same(one, other):
    torch.testing.assert_close(logits(one), logits(other), atol=2e-3, rtol=1e-4)


def trained_by_peft(base, folder, **changes):
    """A LoRA after a few steps of PEFT's own training, saved by PEFT."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    options = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "fc1"], **changes}
    model = get_peft_model(hf.to_hf(load_whisper(base)), LoraConfig(**options))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=0.02)
    for _ in range(3):
        out = model(input_features=mel(), decoder_input_ids=IDS, labels=IDS.roll(-1, 1))
        optimiser.zero_grad()
        out.loss.backward()
        optimiser.step()
    model.save_pretrained(folder)
    return model.eval()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_rslora": True, "target_modules": ["q_proj", "k_proj", "v_proj", "out_proj"]},
        {
            "target_modules": r".*decoder.*(v_proj|fc2)",
            "rank_pattern": {"layers.0.self_attn.v_proj": 2, "fc2": 7},
            "alpha_pattern": {r"layers\.1\.fc2": 20},
        },
        {"use_dora": True, "target_modules": ["q_proj", "v_proj"]},
    ],
    ids=["plain", "rslora", "patterns", "dora"],
)
def test_a_lora_of_peft(base, tmp_path, changes, capsys):
    theirs = trained_by_peft(base, tmp_path / "peft", **changes)
    assert run(tmp_path / "peft", tmp_path / "exp", "--base", base) == 0, capsys.readouterr()
    opened = open_experiment(tmp_path / "exp", packed=False)
    assert opened.pad_to == "30s"
    same(opened, theirs)
    assert not torch.allclose(logits(opened), logits(load_whisper(base)), atol=0.1)
    # What sweep and repair open, and a file for the plain Whisper.
    adapter = open_experiment(tmp_path / "exp", merge=False).adapter
    assert adapter.method == ("dora" if "use_dora" in changes else "lora")
    words = (
        tmp_path / "exp",
        tmp_path / "out",
        "--to",
        "adapter",
        "--check",
        "1",
        "--threads",
        "1",
    )
    assert export.main([*map(str, words)]) == 0, capsys.readouterr()
    same(open_whisper(base, tmp_path / "out" / "adapter.safetensors", packed=False), theirs)


@pytest.mark.parametrize("method", ["blora", "dama", "dora"])
def test_what_goes_out_to_peft_comes_in_again(base, tmp_path, method):
    folder, _ = experiments.experiment(tmp_path / "exp", base, method)
    words = (folder, tmp_path / "peft", "--to", "peft", "--check", "1", "--threads", "1")
    assert export.main([*map(str, words)]) == 0
    assert run(tmp_path / "peft", tmp_path / "back", "--base", base, "--pad_to", "batch") == 0
    opened = open_experiment(tmp_path / "back", merge=False)
    assert opened.pad_to == "batch"
    went = open_experiment(folder, merge=False).adapter
    assert went.layers.keys() == opened.adapter.layers.keys()
    for name, layer in went.layers.items():
        update = opened.adapter.layers[name].delta_weight()
        torch.testing.assert_close(update, layer.delta_weight(), atol=1e-7, rtol=1e-6)


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    """A wholly trained Whisper of transformers."""
    folder = tmp_path_factory.mktemp("whole") / "hf"
    model = hf.to_hf(load_whisper(base))
    torch.manual_seed(4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "proj" in name and parameter.dim() == 2:  # of rank 2
                parameter += (
                    torch.randn(len(parameter), 2) @ torch.randn(2, parameter.shape[1]) / 50
                )
            elif "layer_norm" in name:
                parameter += 0.01 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    return folder, model


def test_a_wholly_trained_folder(base, whole, tmp_path):
    folder, model = whole
    assert run(folder, tmp_path / "exp", "--base", base) == 0
    opened = open_experiment(tmp_path / "exp", packed=False)
    same(opened, model)
    config = yaml.load((tmp_path / "exp" / "config.yaml").read_text(), Loader=yaml.CSafeLoader)
    assert config["use_adapter"] is False and config["save_strategy"] == "all"
    # run.sh --repair --keep hears the base by this one, as after a training.
    train = yaml.safe_load((tmp_path / "exp" / "train.yaml").read_text())
    assert train["encoder_conf"] == {"pad_to": "30s"} and train["encoder"] == "whisper"
    # In shards, and without the positions of the encoder.
    model.save_pretrained(tmp_path / "shards", max_shard_size="300KB")
    assert (tmp_path / "shards" / "model.safetensors.index.json").is_file()
    assert run(tmp_path / "shards", tmp_path / "again", "--base", base) == 0
    same(open_experiment(tmp_path / "again", packed=False), model)


def test_a_wholly_trained_folder_as_a_lora(base, whole, tmp_path, capsys):
    folder, model = whole
    assert run(folder, tmp_path / "two", "--base", base, "--rank", "2") == 0
    out = capsys.readouterr().out
    assert "rank 2 holds 100.0% of the Linears' change" in out and "error is 0.000" in out
    assert "norms, biases, embeddings and convolutions stay the base's:" in out
    opened = open_experiment(tmp_path / "two", packed=False)
    theirs = model.model.decoder.layers[1].self_attn.q_proj.weight
    mine = opened.decoder.blocks[1].attn.query.weight
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)
    assert run(folder, tmp_path / "one", "--base", base, "--rank", "1") == 0
    share = float(capsys.readouterr().out.split("holds ")[1].split("%")[0])
    assert 50 < share < 99


def loralib_state(base, merged):
    """What stock ESPnet saves of a LoRA on `query`: factors, and all weights around them."""
    plain = load_whisper(base)
    state = {key.replace("coder.", "coder.#", 1): t for key, t in plain.state_dict().items()}
    state = {
        key.replace("encoder.#", "encoder.encoders.").replace("decoder.#", "decoder.decoders."): t
        for key, t in state.items()
    }
    torch.manual_seed(7)
    for key in [key for key in state if key.endswith(".query.weight")]:
        layer = key.removesuffix(".weight")
        down, up = torch.randn(3, 32), 0.1 * torch.randn(32, 3)
        state |= {f"{layer}.lora_A": down, f"{layer}.lora_B": up}
        if merged:
            state[key] = state[key] + 5 / 3 * up @ down
    return state


@pytest.mark.parametrize("kind", ["factors", "whole", "merged"])
def test_a_lora_of_stock_espnet_is_counted_once(base, tmp_path, kind):
    folder = experiments.write_config(
        tmp_path / "stock", base, use_adapter=True, adapter="lora",
        adapter_conf={"rank": 3, "alpha": 5, "target_modules": ["query"]},
    )  # fmt: skip
    state = loralib_state(base, kind == "merged")
    wanted = loralib_state(base, True)
    if kind == "factors":
        state = {key: tensor for key, tensor in state.items() if "lora_" in key}
    torch.save(state, folder / "valid.acc.best.pth")
    assert run(folder, tmp_path / "exp", "--base", base) == 0
    opened = open_experiment(tmp_path / "exp", packed=False).as_trained().state_dict()
    for key, tensor in opened.items():
        torch.testing.assert_close(tensor, wanted[key], atol=1e-5, rtol=1e-5)


def test_loralib_beside_a_trained_bias_is_refused(base):
    state = loralib_state(base, False)
    state["decoder.decoders.blocks.0.attn.query.bias"] = torch.ones(32)
    with pytest.raises(ValueError, match=r"query\.bias is neither the base's nor"):
        read_loralib({"adapter_conf": {"alpha": 5}}, state, load_whisper(base), "x.pth")


def test_sources_whose_reader_computes_something_else_are_not_kept(base, tmp_path, capsys):
    trained_by_peft(base, tmp_path / "peft")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("espnet_blora.export.check.APART", 0.0)
        assert run(tmp_path / "peft", tmp_path / "exp", "--base", base) == 1
    assert "its own reader computes something else" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["peft"]


# ---- what is refused: one line, and nothing is left ----


@pytest.fixture(scope="module")
def sources(base, whole, tmp_path_factory):
    top = tmp_path_factory.mktemp("sources")
    trained_by_peft(base, top / "peft")
    shutil.copytree(whole[0], top / "hf")
    folder = experiments.write_config(
        top / "espnet", base, use_adapter=True, adapter="lora",
        adapter_conf={"rank": 3, "alpha": 5, "target_modules": ["query"]},
    )  # fmt: skip
    state = {key: t for key, t in loralib_state(base, False).items() if "lora_" in key}
    torch.save(state, folder / "valid.acc.best.pth")
    save_whisper(lively(seed=1), top / "other.safetensors", dtype=torch.float32)
    return top


def config(**changes):
    """Change a JSON or yaml configuration."""

    def damage(folder):
        for name in ("adapter_config.json", "config.json"):
            if (folder / name).is_file():
                values = json.loads((folder / name).read_text()) | changes
                (folder / name).write_text(json.dumps(values))

    return damage


def weights(change):
    """Change the tensors of a safetensors file, or of a checkpoint."""

    def damage(folder):
        for path in (*folder.glob("*.safetensors"), *folder.glob("*.pth")):
            if path.suffix == ".pth":
                tensors = torch.load(path)
                change(tensors)
                torch.save(tensors, path)
            else:
                tensors = load_file(path)
                change(tensors)
                save_file(tensors, path, metadata={"format": "pt"})

    return damage


def cut(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-700])


def text(name, content="not this\n"):
    return lambda folder: (folder / name).write_text(content)


def full(folder):
    (folder / "out").mkdir()
    (folder / "out" / "x").touch()


def without_lora(tensors):
    for key in [key for key in tensors if "lora" in key]:
        del tensors[key]
    tensors["x"] = torch.ones(1)


def convolution(tensors):
    tensors["base_model.model.model.encoder.conv1.lora_A.weight"] = tensors[
        first(tensors, A)
    ].clone()


def untied(tensors):
    tensors["proj_out.weight"] = tensors[first(tensors, "embed_tokens.weight")] + 1


def first(tensors, end):
    return next(key for key in sorted(tensors) if key.endswith(end))


def put(tensors, end, value):
    key = first(tensors, end)
    tensors[key] = value(tensors[key])


ADAPTER, MODEL, BEST = "adapter_model.safetensors", "model.safetensors", "valid.acc.best.pth"
A = "lora_A.weight"
REFUSED = {
    "no folder": (None, None, "gone: holds none of adapter_config.json"),
    "empty": ("empty", None, "holds none of adapter_config.json, config.json, config.yaml"),
    "peft: config cut": ("peft", cut("adapter_config.json"), "not readable as JSON"),
    "peft: config a list": ("peft", text("adapter_config.json", "[1]"), "found list"),
    "peft: no tensors": ("peft", lambda f: (f / ADAPTER).unlink(), "no adapter_model.safetensors"),
    "peft: tensors cut": ("peft", cut(ADAPTER), "not a readable safetensors"),
    "peft: tensors are text": ("peft", text(ADAPTER), "not a readable safetensors"),
    "peft: another kind": ("peft", config(peft_type="LOHA"), "'LOHA'; LORA is read. Remedy: merge"),
    "peft: pissa": ("peft", config(init_lora_weights="pissa"), "pissa (it changes the base)"),
    "peft: biases": ("peft", config(bias="lora_only"), "bias: lora_only: more than a LoRA"),
    "peft: whole modules": ("peft", config(modules_to_save=["fc2"]), "modules_to_save: ['fc2']"),
    "peft: an option of tomorrow": ("peft", config(use_new=True), "use_new: True: more than"),
    "peft: alpha": ("peft", config(lora_alpha="much"), "is 'much'; a number is expected"),
    "peft: alpha 0": ("peft", config(lora_alpha=0), "alpha / r is 0; it must be above 0"),
    "peft: another rank": ("peft", config(r=8), "is 8, its lora_A has 4 rows"),
    "peft: no pattern": ("peft", config(rank_pattern={"(": 4}), "rank_pattern is not a table"),
    "peft: dora without m": ("peft", config(use_dora=True), "lora_magnitude_vector are expected"),
    "peft: a factor gone": (
        "peft",
        weights(lambda t: t.pop(first(t, A))),
        "has lora_B, lora_A, lora_B are expected",
    ),
    "peft: nan": ("peft", weights(lambda t: put(t, A, lambda v: v * float("nan"))), "NaN or inf"),
    "peft: another width": (
        "peft",
        weights(lambda t: put(t, A, lambda v: v[:, :9].clone())),
        "another size",
    ),
    "peft: integers": ("peft", weights(lambda t: put(t, A, lambda v: v.int())), "torch.int32, a"),
    "peft: a convolution": (
        "peft",
        weights(convolution),
        "conv1.lora_A.weight is not on a Linear",
    ),
    "peft: an embedding": (
        "peft",
        weights(lambda t: t.update({"x.lora_embedding_A": torch.ones(2)})),
        "no LoRA's factor",
    ),
    "peft: rank asked": ("peft", None, "--rank: ", "--rank", "2"),
    "hf: another model": ("hf", config(model_type="bert"), "model_type is 'bert', not 'whisper'"),
    "hf: added tokens": ("hf", config(vocab_size=51900), "tokens that were added cannot come in"),
    "hf: another size": ("hf", config(d_model=384), "d_model is 384, the base has 32"),
    "hf: no tensors": ("hf", lambda f: (f / MODEL).unlink(), "no model.safetensors, nor pytorch"),
    "hf: tensors cut": ("hf", cut(MODEL), "not a readable safetensors"),
    "hf: a tensor gone": (
        "hf",
        weights(lambda t: t.pop(first(t, "fc1.bias"))),
        "1 missing (model.",
    ),
    "hf: a tensor more": ("hf", weights(lambda t: t.update(x=torch.ones(1))), "1 more (model.x)"),
    "hf: nan": ("hf", weights(lambda t: put(t, "fc1.bias", lambda v: v / 0)), "NaN or inf"),
    "hf: an untied head": (
        "hf",
        weights(untied),
        "proj_out differs from embed_tokens",
    ),
    "hf: a shard gone": (
        "hf",
        text("model.safetensors.index.json", '{"weight_map": {"a": "model-2.safetensors"}}'),
        "model-2.safetensors: no such file",
    ),
    "hf: rank too high": ("hf", None, "1 to 32 is possible", "--rank", "33"),
    "espnet: checkpoint cut": ("espnet", cut(BEST), "truncated or corrupted"),
    "espnet: no checkpoint": ("espnet", lambda f: (f / BEST).unlink(), "there are no checkpoints"),
    "espnet: config is text": ("espnet", text("config.yaml", "- 1\n"), "expected a yaml mapping"),
    "espnet: a factor gone": (
        "espnet",
        weights(lambda t: t.pop(first(t, "lora_B"))),
        "lora_B is missing",
    ),
    "espnet: no lora": (
        "espnet",
        weights(without_lora),
        "no LoRA on a Linear",
    ),
    "espnet: something more": (
        "espnet",
        weights(lambda t: t.update(ctc=torch.ones(1))),
        "ctc is not",
    ),
    "base: gone": ("peft", None, "neither a file nor a published size", "--base", "gone.pt"),
    "base: cut": ("peft", cut("b.safetensors"), "not a readable", "--base", "b.safetensors"),
    "exp: not empty": ("peft", full, "is there"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(sources, base, case, tmp_path, capsys, monkeypatch):
    source, damage, message, *words = REFUSED[case]
    folder = tmp_path / "gone"
    if source is not None:
        folder = tmp_path / source
        folder.mkdir() if source == "empty" else shutil.copytree(sources / source, folder)
    if "b.safetensors" in words:
        shutil.copy(base, folder / "b.safetensors")
    if damage is not None:
        damage(folder)
    monkeypatch.chdir(folder if source else tmp_path)
    before = sorted(tmp_path.rglob("*"))
    given = words if "--base" in words else ["--base", base, *words]
    assert run(folder, folder / "out", *given) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(lines) == 1 and message in lines[0], lines
    assert sorted(tmp_path.rglob("*")) == before
