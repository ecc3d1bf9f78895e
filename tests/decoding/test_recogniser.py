"""Opening a model for decoding: the right weights, nothing of ESPnet, or one clear error."""

import logging
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from espnet_blora.adapters import METHODS, add_adapter, get_adapter, load_adapter
from espnet_blora.decoding import checked_load
from espnet_blora.decoding import recogniser as opening
from espnet_blora.decoding.recogniser import Recogniser
from espnet_blora.whisper import decoder as text_decoder
from espnet_blora.whisper.checkpoint import load_whisper
from espnet_blora.whisper.encoder import encode
from espnet_blora.whisper.packed import PackedLinear
from espnet_blora.whisper.vocabulary import Vocabulary
from tests import experiments

# Bit for bit: with the modules that openai-whisper has. Packed ones are compared at the end.
open_experiment = partial(opening.open_experiment, packed=False)
open_whisper = partial(opening.open_whisper, packed=False)

ROOT = Path(__file__).resolve().parents[2]
LAYOUT = Vocabulary.of(51865)


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    return experiments.whisper_file(tmp_path_factory.mktemp("whisper") / "w.safetensors")


@pytest.fixture(scope="module")
def lora(whisper, tmp_path_factory):
    return experiments.experiment(tmp_path_factory.mktemp("exp") / "asr_lora", whisper, "lora")


@torch.no_grad()
def logits(encoder, decoder, language=LAYOUT.languages["zh"], pad_to="batch"):
    """Of two waves of unequal lengths, over a prompt and a few tokens."""
    waves = 0.1 * torch.randn(2, 6000, generator=torch.Generator().manual_seed(1))
    memory, lengths = encode(encoder, waves, torch.tensor([6000, 4000]), pad_to)
    prompt = [LAYOUT.sot, language, LAYOUT.transcribe, LAYOUT.notimestamps, 11, 400]
    return text_decoder.forward(decoder, torch.tensor([prompt, prompt]), memory, lengths)


def of(opened: Recogniser, **kind):
    return logits(opened.encoder, opened.decoder, **kind)


def of_reference(model, **kind):
    return logits(model["encoder"]["encoders"], model["decoder"]["decoders"], **kind)


@pytest.mark.parametrize("method", [None, *METHODS])
def test_every_method_opens_with_the_trained_weights(whisper, tmp_path, method):
    folder, model = experiments.experiment(tmp_path / "exp", whisper, method)
    factored = of_reference(model)
    base = load_whisper(whisper)
    assert not torch.allclose(factored, logits(base.encoder, base.decoder), atol=1e-3)

    opened = open_experiment(folder, merge=False)
    assert (opened.adapter is None) == (method is None)
    assert torch.equal(of(opened), factored)

    opened = open_experiment(folder)
    assert opened.adapter is None
    if method is not None:
        get_adapter(model).merge()
    assert torch.equal(of(opened), of_reference(model))
    plain = {type(module).__module__.split(".")[0] for module in opened.decoder.modules()}
    assert plain == {"whisper", "torch"}  # no adapter layer is left to cost time at every step
    parameters = [*opened.encoder.parameters(), *opened.decoder.parameters()]
    assert not any(p.requires_grad for p in parameters) and not opened.decoder.training


def test_what_a_recogniser_says_of_itself(lora, whisper, tmp_path):
    opened = open_experiment(lora[0])
    assert opened.vocabulary is LAYOUT and opened.pad_to == "batch" and opened.language is None
    assert opened.name == str(lora[0])
    assert (opened.device.type, opened.dtype) == ("cpu", torch.float32)
    assert opened.alignment_heads == [(1, 0), (1, 1)]  # openai-whisper's: the later half
    folder, _ = experiments.experiment(
        tmp_path / "exp", whisper, preprocessor_conf={"whisper_language": "chinese"},
        encoder_conf={"whisper_model": whisper},
    )  # fmt: skip
    opened = open_experiment(folder / "config.yaml")
    assert (opened.language, opened.pad_to) == ("zh", "30s")
    experiments.write_config(folder, whisper, preprocessor_conf={"whisper_language": "rw"})
    with pytest.raises(ValueError, match=r"config\.yaml: preprocessor_conf.whisper_language: .*rw"):
        open_experiment(folder)


def test_the_mark_of_the_base_opens_the_base(whisper, tmp_path):
    folder = experiments.write_config(tmp_path, whisper)
    base = load_whisper(whisper)
    torch.save(checked_load.base_marker(experiments.espnet_names(base)), folder / "base.pth")
    assert torch.equal(of(open_experiment(folder)), logits(base.encoder, base.decoder))
    other = experiments.whisper_file(tmp_path / "other.safetensors", seed=5)
    experiments.write_config(folder, other)
    with pytest.raises(ValueError, match=r"base\.pth: the checkpoint stands for another base"):
        open_experiment(folder)


@pytest.mark.parametrize("method", [None, "blora"])
def test_new_languages_bring_their_embeddings(whisper, tmp_path, method):
    folder, model = experiments.experiment(tmp_path / "exp", whisper, method, new=("kab", "rw"))
    opened = open_experiment(folder, merge=False)
    assert opened.vocabulary is Vocabulary.of(51865, ["kab", "rw"])
    rw = opened.vocabulary.languages["rw"]
    assert torch.equal(of(opened, language=rw), of_reference(model, language=rw))
    assert not torch.equal(of(opened, language=rw), of(opened, language=rw - 1))
    assert open_experiment(folder, dtype="bfloat16").decoder.token_embedding(
        torch.tensor([rw, 5])
    ).dtype == torch.bfloat16  # fmt: skip
    state = torch.load(folder / "valid.acc.best.pth")
    torch.save({k: v for k, v in state.items() if "new_weight" not in k}, folder / "1epoch.pth")
    with pytest.raises(ValueError, match="lacks .*new_weight, the embeddings of .*kab rw"):
        open_experiment(folder, "1epoch.pth")


def test_the_scale_is_applied_before_merging(lora, whisper):
    base = load_whisper(whisper)
    opened = open_experiment(lora[0], adapter_scale=0)
    assert torch.equal(of(opened), logits(base.encoder, base.decoder))
    half = open_experiment(lora[0], adapter_scale=0.5, merge=False)
    assert half.adapter.scale == 0.5
    assert torch.allclose(of(open_experiment(lora[0], adapter_scale=0.5)), of(half), atol=1e-5)
    with pytest.raises(ValueError, match="adapter scale"):
        open_experiment(lora[0], adapter_scale=float("nan"))
    with pytest.raises(ValueError, match=r"--adapter-scale 0.5: this model has no adapter"):
        open_whisper(whisper, adapter_scale=0.5)


@pytest.mark.parametrize("dtype", ["float16", torch.bfloat16])
@pytest.mark.parametrize("merge", [True, False])
def test_half_precision_stays_close(lora, dtype, merge):
    opened = open_experiment(lora[0], dtype=dtype, merge=merge)
    assert str(opened.dtype).endswith(str(dtype).removeprefix("torch."))
    decoder = opened.decoder
    assert decoder.ln.weight.dtype == decoder.positional_embedding.dtype == torch.float32
    assert opened.encoder.conv1.weight.dtype == opened.dtype
    assert opened.encoder.blocks[0].mlp[0].bias.dtype == opened.dtype
    exact, found = of(open_experiment(lora[0])), of(opened)
    assert found.dtype == torch.float32
    error = (found - exact).norm() / exact.norm()
    assert 0 < error < 0.02


def test_a_whisper_with_an_adapter_file(lora, whisper, tmp_path):
    _, model = lora
    expected = of_reference(model)
    get_adapter(model).save(tmp_path / "espnet.safetensors")
    opened = open_whisper(whisper, tmp_path / "espnet.safetensors", merge=False, pad_to="batch")
    assert torch.equal(of(opened), expected) and opened.adapter.method == "lora"
    merged = open_whisper(whisper, tmp_path / "espnet.safetensors")
    assert merged.adapter is None and merged.pad_to == "30s"
    assert torch.allclose(of(merged), expected, atol=1e-5)

    own = load_whisper(whisper)  # openai-whisper's own names, of a user's own training
    adapter = add_adapter(own, "lora", rank=2, target_modules=["query"])
    for layer in adapter.layers.values():
        torch.nn.init.normal_(layer.lora_B)
    adapter.save(tmp_path / "own.safetensors")
    opened = open_whisper(whisper, tmp_path / "own.safetensors", merge=False)
    assert torch.equal(of(opened), logits(own.encoder, own.decoder))
    # Each file on the other's model, by the two functions of the root.
    plain = load_whisper(whisper)
    load_adapter(plain, tmp_path / "espnet.safetensors")
    assert torch.equal(logits(plain.encoder, plain.decoder), expected)
    nested = experiments.espnet_names(load_whisper(whisper))
    load_adapter(nested, tmp_path / "own.safetensors")
    assert torch.equal(of_reference(nested), logits(own.encoder, own.decoder))
    other = experiments.whisper_file(tmp_path / "other.safetensors", seed=5)
    with pytest.raises(ValueError, match=r"own\.safetensors: wrong base"):
        open_whisper(other, tmp_path / "own.safetensors")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        open_whisper(whisper, tmp_path / "gone.safetensors")


def test_which_whisper_it_is(lora, whisper, tmp_path, monkeypatch, caplog):
    """As config.yaml says; from the folder of its recipe; else what is asked for."""
    recipe = tmp_path / "asr1"
    place = experiments.whisper_file(recipe_file(recipe))
    folder, model = experiments.experiment(recipe / "exp" / "asr", place, "lora")
    trained_on = {"use_adapter": True, "adapter_conf": experiments.options("lora")}
    experiments.write_config(folder, "base/w.safetensors", **trained_on)
    expected = of_reference(model)
    monkeypatch.chdir(tmp_path)
    assert torch.equal(of(open_experiment(folder, merge=False)), expected)
    assert torch.equal(of(open_experiment("asr1/exp/asr", merge=False)), expected)
    other = experiments.whisper_file(tmp_path / "other.safetensors", seed=5)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert torch.equal(of(open_experiment(folder, whisper=other, merge=False)), expected)
    assert "other.safetensors' is asked for; using" in caplog.text
    moved = tmp_path / "moved.safetensors"
    Path(place).rename(moved)
    with pytest.raises(FileNotFoundError, match=r"base/w.safetensors', which is neither .*--whisp"):
        open_experiment(folder)
    assert torch.equal(of(open_experiment(folder, whisper=moved, merge=False)), expected)
    with pytest.raises(ValueError, match=r"valid\.acc\.best\.pth: wrong base"):
        open_experiment(folder, whisper=other)
    experiments.write_config(folder, None, **trained_on)
    with pytest.raises(ValueError, match="names no Whisper"):
        open_experiment(folder)
    assert torch.equal(of(open_experiment(folder, whisper=moved, merge=False)), expected)


def recipe_file(recipe):
    (recipe / "base").mkdir(parents=True)
    return recipe / "base" / "w.safetensors"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "conformer"}, r"encoder: conformer: .*espnet2\.bin\.asr_inference"),
        ({"decoder": "transformer", "frontend": "default"}, "decoder: transformer, frontend: def"),
        ({"model_conf": {"ctc_weight": 0.3}}, "ctc_weight: 0.3: this is not a Whisper alone"),
        ({"model_conf": {}}, "ctc_weight: 0.5"),
        ({"normalize": "global_mvn"}, "normalize: global_mvn"),
        ({"use_adapter": True, "adapter": "houlsby"}, r"houlsby is ESPnet's own.*asr_inference"),
        ({"use_adapter": True, "adapter": "blorra"}, "'blorra' is unknown.*blora"),
        ({"use_adapter": True, "adapter_conf": {"rank": 0}}, "rank"),
        ({"encoder_conf": {"pad_to": "10s"}}, r"pad_to is '10s'; allowed: batch, 30s"),
        ({"decoder_conf": {"new_languages": ["rw"]}}, "the token list decides"),
    ],
)
def test_models_that_cannot_be_opened_are_named(whisper, tmp_path, changes, message):
    for half in ("encoder_conf", "decoder_conf"):
        if half in changes:
            changes[half]["whisper_model"] = whisper
    folder, _ = experiments.experiment(tmp_path / "exp", whisper, **changes)
    with pytest.raises(ValueError, match=message):
        open_experiment(folder)


def spoilt(name, state):
    """A checkpoint with one thing wrong."""
    factor = next(key for key in state if key.endswith(("lora_B", "mlp.0.weight")))
    if name == "empty":
        return {}
    if name == "lacking":
        return {key: value for key, value in state.items() if key != factor}
    if name == "further":
        return state | {f"{factor.rsplit('.', 1)[0]}x.lora_B": state[factor]}
    if name == "elsewhere":
        return {f"module.{key}": value for key, value in state.items()}
    if name == "wide":
        wide = [key for key in state if key.endswith(("lora_A", "mlp.0.weight"))]
        return state | {key: torch.cat([state[key]] * 2) for key in wide}
    return state | {factor: state[factor] * float("nan")}


@pytest.mark.parametrize("method", ["lora", None])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", "holds nothing"),
        ("lacking", "1 are missing|1 missing"),
        ("further", "1 are unexpected|1 unexpected"),
        ("elsewhere", "holds none of|0 of .* keys matched"),
        ("wide", "rank 8, the model's adapter has rank 4|tensors differ in shape"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(whisper, tmp_path, method, name, message):
    folder, _ = experiments.experiment(tmp_path / "exp", whisper, method)
    state = torch.load(folder / "valid.acc.best.pth")
    torch.save(spoilt(name, state), folder / "valid.acc.best.pth")
    with pytest.raises(ValueError, match=message) as caught:
        open_experiment(folder)
    assert "valid.acc.best.pth" in str(caught.value) and len(str(caught.value)) < 1000


def test_a_damaged_checkpoint_is_refused(lora, tmp_path):
    file = lora[0] / "valid.acc.best.pth"
    state = torch.load(file)
    sound = file.read_bytes()
    factor = next(v for k, v in state.items() if k.endswith("lora_A"))
    flipped = bytearray(sound)
    flipped[sound.index(factor.numpy().tobytes()) + 2] ^= 1
    for name, raw, message in (
        ("short", sound[:-2000], "truncated or corrupted"),
        ("flipped", bytes(flipped), "does not match its checksum"),
        ("text", b"no checkpoint at all", "truncated or corrupted"),
    ):
        (tmp_path / f"{name}.pth").write_bytes(raw)
        with pytest.raises(ValueError, match=rf"{name}\.pth .*{message}"):
            open_experiment(lora[0], tmp_path / f"{name}.pth")
    torch.save({"x": Path("code")}, tmp_path / "code.pth")
    with pytest.raises(ValueError, match="more than tensors"):
        open_experiment(lora[0], tmp_path / "code.pth")
    torch.save(spoilt("nan", state), tmp_path / "nan.pth")
    with pytest.raises(ValueError, match="NaN or inf"):
        open_experiment(lora[0], tmp_path / "nan.pth")


def test_a_checkpoint_of_another_method_is_refused(lora, whisper, tmp_path):
    folder, _ = experiments.experiment(tmp_path / "exp", whisper, "blora")
    with pytest.raises(ValueError, match="of adapter 'lora', the model carries 'blora'"):
        open_experiment(folder, lora[0] / "valid.acc.best.pth")


def test_what_is_not_there_is_named(lora, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone/config\.yaml: no such file; train first"):
        open_experiment(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=r"7epoch\.pth; there are valid\.acc\.best\.pth"):
        open_experiment(lora[0], "7epoch.pth")
    with pytest.raises(FileNotFoundError, match="neither a file nor a published size"):
        open_whisper("smal")
    for option, message in (
        ({"dtype": "int8"}, "dtype is 'int8'; allowed: float32, float16, bfloat16"),
        ({"device": "cpux"}, "device is 'cpux'"),
        ({"device": "cuda:99"}, "device is 'cuda:99', which cannot be used here"),
    ):
        with pytest.raises(ValueError, match=message):
            open_experiment(lora[0], **option)


def test_an_english_only_whisper_is_refused(tmp_path):
    path = experiments.whisper_file(tmp_path / "en.safetensors", n_vocab=51864)
    with pytest.raises(ValueError, match="English-only"):
        open_whisper(path)


def test_opening_imports_nothing_of_espnet(lora):
    code = f"""
import sys
import torch
from espnet_blora.decoding.recogniser import open_experiment
open_experiment({str(lora[0])!r})
found = sorted({{m.split(".")[0] for m in sys.modules}})
heavy = {{"espnet", "espnet2", "matplotlib", "transformers", "peft", "pandas", "sklearn"}}
sys.exit(", ".join(heavy.intersection(found)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_layers_are_packed_where_no_adapter_is_left_inside(lora):
    exact, packed = open_experiment(lora[0]), opening.open_experiment(lora[0])

    def kinds(opened):
        return {type(m) for m in opened.encoder.modules()}

    assert PackedLinear in kinds(packed) and PackedLinear not in kinds(exact)
    wanted = of(exact)
    assert (of(packed) - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    for options in ({"merge": False}, {"dtype": "bfloat16"}):
        assert PackedLinear not in kinds(opening.open_experiment(lora[0], **options))
