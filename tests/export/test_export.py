"""Every export is opened by the reader that its users use, and says what the experiment says."""

import itertools
import json

import pytest
import torch
import whisper
import yaml

from espnet_blora.adapters import add_adapter, load_adapter, read_adapter_file
from espnet_blora.bin import export
from espnet_blora.decoding import Transcriber, dumped_set, open_experiment
from espnet_blora.decoding.recogniser import open_model, open_whisper
from espnet_blora.export import check, ct2, ggml, hf
from espnet_blora.export.peft import write_peft
from espnet_blora.whisper.checkpoint import load_whisper, save_whisper
from espnet_blora.whisper.vocabulary import Vocabulary
from tests import experiments
from tests.plugin.tiny import data_dir
from tests.whispers import lively

COUNT = 3
LONG = [pytest.param(m, marks=pytest.mark.integration) for m in ("lora", "dora", "dama")]
METHODS = ("blora", None, *LONG)  # None: all weights trained


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "lively.safetensors"
    save_whisper(lively(), path, dtype=torch.float32)
    return str(path)


@pytest.fixture(scope="module", params=METHODS, ids=str)
def experiment(request, base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exp") / str(request.param)
    if request.param is None:
        experiments.write_config(folder, base)
        model = experiments.espnet_names(load_whisper(base))
        with torch.no_grad():
            model["decoder"]["decoders"].blocks[0].attn.query.weight.mul_(1.3)
        torch.save(model.state_dict(), folder / "valid.acc.best.pth")
        return folder, None
    return experiments.experiment(folder, base, request.param)[0], request.param


def run(*words):
    return export.main([*map(str, words), "--check", str(COUNT), "--threads", "1"])


def inputs():
    mel = torch.randn(1, 80, 3000, generator=torch.Generator().manual_seed(2))
    return mel, torch.tensor([[*Vocabulary.of(51865).prompt("zh"), 17, 400]])


@torch.no_grad()
def logits(model):
    mel, ids = inputs()
    return model.decoder(ids, model.encoder(mel))


@torch.no_grad()
def hf_logits(model):
    mel, ids = inputs()
    return model(input_features=mel, decoder_input_ids=ids).logits


def test_openai(experiment, base, tmp_path, capsys, caplog):
    folder, _ = experiment
    assert run(folder, tmp_path / "out", "--to", "openai") == 0, capsys.readouterr()
    assert "in the 30 s window of all readers outside, 3 of 3 utterances read" in caplog.text
    assert f"ids are ours on {COUNT} noises" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "README.md", "alignment_heads.json", "model.pt",
    ]  # fmt: skip
    opened = whisper.load_model(str(tmp_path / "out" / "model.pt"), device="cpu")
    ours = open_experiment(folder, packed=False)
    assert torch.equal(logits(opened), logits(ours))
    assert not torch.allclose(logits(opened), logits(load_whisper(base)), atol=1e-2)
    heads = json.loads((tmp_path / "out" / "alignment_heads.json").read_text())
    assert [tuple(pair) for pair in heads] == ours.alignment_heads


def test_hf(experiment, tmp_path, capsys):
    folder, _ = experiment
    assert run(folder, tmp_path / "out", "--to", "hf") == 0, capsys.readouterr()
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    model = WhisperForConditionalGeneration.from_pretrained(tmp_path / "out")
    ours = open_experiment(folder, packed=False)
    torch.testing.assert_close(hf_logits(model), logits(ours), atol=1e-3, rtol=1e-4)
    assert model.generation_config.alignment_heads == [list(p) for p in ours.alignment_heads]
    tokenizer = WhisperProcessor.from_pretrained(tmp_path / "out").tokenizer
    names = Vocabulary.of(51865).token_list()
    assert tokenizer.get_vocab() == {name: index for index, name in enumerate(names)}
    for text in (
        "hello world",
        "你好 movie妈妈",
        "naïve 🤦🏽\u200d♂️\n x",
        "مرحبا بالعالم",
        "x" * 90,
    ):
        wanted = Vocabulary.of(51865).encode(text)
        assert tokenizer(text, add_special_tokens=False).input_ids == wanted
        assert tokenizer.decode(wanted) == text
    files = {p.name for p in (tmp_path / "out").iterdir()}
    assert {"preprocessor_config.json", "vocab.json", "merges.txt"} <= files  # of transformers 4
    settings = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert "extra_special_tokens" not in settings


def test_ct2(experiment, tmp_path, capsys):
    folder, _ = experiment
    assert run(folder, tmp_path / "out", "--to", "ct2") == 0, capsys.readouterr()
    from faster_whisper import WhisperModel

    model = WhisperModel(str(tmp_path / "out"), device="cpu")
    ours = open_experiment(folder, packed=False)
    wave = 0.1 * torch.randn(32000, generator=torch.Generator().manual_seed(4))
    found, _ = model.transcribe(wave.numpy(), language="zh", beam_size=1, temperature=0.0)
    assert len("".join(segment.text for segment in found)) > 8
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["alignment_heads"] == [list(pair) for pair in ours.alignment_heads]
    assert len(config["lang_ids"]) == 99  # without them no language is detected
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md", "config.json", "model.bin", "preprocessor_config.json", "tokenizer.json",
        "vocabulary.json",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def heard(base):
    """A few tokens of two noises: on a Whisper of random weights rounding grows with each."""
    ours = open_whisper(base)
    waves, languages = dumped_set.probe_waves(None, ours, 2)
    ids = dumped_set.greedy_ids(ours, waves, languages, 4)
    return check.Probe(waves, languages, 4, ids, ours.vocabulary)


@pytest.mark.parametrize("precision", ct2.PRECISIONS)
def test_ct2_is_read_in_every_precision(base, heard, tmp_path, precision):
    model = load_whisper(base)
    ct2.write_ct2(model, tmp_path, precision)
    assert check.by_ct2(tmp_path, heard, base) == heard.ours
    stored = (tmp_path / "model.bin").stat().st_size
    parameters = sum(parameter.numel() for parameter in model.parameters())
    size = {"float32": 4, "float16": 2, "int8": 1}[precision]
    assert size < stored / parameters < 1.3 * size


def test_ggml_is_read_by_whisper_cpp(base, heard, tmp_path):
    ggml.write_ggml(load_whisper(base), tmp_path)
    assert check.by_ggml(tmp_path, heard, base) == heard.ours
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "ggml-model.bin"]


def test_rounded_weights_may_read_otherwise_in_one_of_ten(caplog):
    vocabulary = Vocabulary.of(51865)
    said = {str(i): tuple(vocabulary.encode("good morning")) for i in range(10)}
    probe = check.Probe({}, {}, 10, said, vocabulary)
    other = {"3": (*said["3"][:1], 400), "7": ()}
    assert check.compare("ggml", probe, said | {"7": ()}, check.ROUNDED) == ["7"]
    assert "7: ours 'good morning', its reader's ''" in caplog.text
    with pytest.raises(check.Differs, match="in 2 of 10 utterances, first 3 at token 2"):
        check.compare("ggml", probe, said | other, check.ROUNDED)
    with pytest.raises(check.Differs, match="in 1 of 10"):
        check.compare("ct2", probe, said | {"7": ()})


@pytest.mark.parametrize("damage", ["short", "text", "gone"])
def test_a_file_that_kills_whisper_cpp_is_an_error(base, tmp_path, damage):
    model = load_whisper(base)
    ggml.write_ggml(model, tmp_path)
    file = tmp_path / ggml.MODEL
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:5000] if damage == "short" else b"no model\n" * 99)
    probe = check.Probe({"a": torch.zeros(16000)}, {"a": "en"}, 9, {"a": ()}, Vocabulary.of(51865))
    with pytest.raises(ValueError, match="whisper.cpp cannot read its file: status"):
        check.by_ggml(tmp_path, probe, base)


def test_adapter(experiment, base, tmp_path, capsys):
    folder, method = experiment
    lengths = {"median": 2.5, "most": 4.0, "longest": 6.5}
    trained = {"training_data": {"seconds": lengths, "languages": {"zh": 3}}}
    with (folder / "config.yaml").open("a") as config:
        yaml.safe_dump(trained, config)
    status = run(folder, tmp_path / "out", "--to", "adapter")
    if method is None:
        assert status == 2 and "has no adapter" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
        return
    assert status == 0, capsys.readouterr()
    plain = load_whisper(base).eval()
    adapter = load_adapter(plain, tmp_path / "out" / "adapter.safetensors")
    assert all(name.startswith(("encoder.blocks.", "decoder.blocks.")) for name in adapter.layers)
    factored = open_experiment(folder, merge=False, packed=False)
    assert torch.equal(logits(plain), logits(factored))
    # The file knows padding, lengths and languages of its training, and keeps them when it is
    # exported again.
    source = tmp_path / "out" / "adapter.safetensors"
    opened = open_model(adapter=str(source), whisper=base)
    assert opened.pad_to == factored.pad_to == "batch"
    for model in (opened, factored):
        transcriber = Transcriber(model)
        assert transcriber.limits == (4 * 16000, 2.5 * 16000) and transcriber.languages == "zh"
        assert model.lengths.longest == 6.5
    assert open_model(adapter=str(source), whisper=base, pad_to="30s").pad_to == "30s"
    assert run(source, tmp_path / "again", "--to", "adapter", "--whisper", base) == 0
    assert read_adapter_file(tmp_path / "again" / source.name).description["training"] == {
        "encoder_conf": {"pad_to": "batch"}, **trained
    }  # fmt: skip
    # From the file again, merged; and the file says which Whisper it needs.
    assert run(source, tmp_path / "merged", "--to", "openai", "--whisper", base) == 0
    opened = whisper.load_model(str(tmp_path / "merged" / "model.pt"), device="cpu")
    torch.testing.assert_close(logits(opened), logits(plain), atol=1e-3, rtol=1e-4)
    assert run(source, tmp_path / "none", "--to", "openai") == 2


def test_peft(experiment, base, tmp_path, capsys):
    folder, method = experiment
    status = run(folder, tmp_path / "out", "--to", "peft", "--scale", "0.5")
    scale = 1.0 if method == "dora" else 0.5
    if method in (None, "dora"):
        message = "has no adapter" if method is None else "PEFT has no scale for dora's update"
        assert status == 2 and message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
        if method is None:
            return
        status = run(folder, tmp_path / "out", "--to", "peft")
    assert status == 0, capsys.readouterr()
    from peft import PeftModel

    model = PeftModel.from_pretrained(hf.to_hf(load_whisper(base)), tmp_path / "out").eval()
    ours = open_experiment(folder, packed=False, adapter_scale=scale)
    torch.testing.assert_close(hf_logits(model), logits(ours), atol=1e-3, rtol=1e-4)
    readme = (tmp_path / "out" / "README.md").read_text()
    assert 'from_pretrained("BASE_FOLDER")' in readme  # the base is a file of openai-whisper's
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert ("posterior.safetensors" in files) == (method == "blora")
    if method == "blora":  # an adapter file of its own
        plain = load_whisper(base)
        assert load_adapter(plain, tmp_path / "out" / "posterior.safetensors").method == "blora"


def test_peft_names_the_base_as_the_hub_does(base, tmp_path):
    plain = load_whisper(base)
    adapter = add_adapter(load_whisper(base), "lora", rank=2, target_modules=["query"])
    write_peft(adapter, plain, "turbo", tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "openai/whisper-large-v3-turbo"


def test_scaled_and_checked_on_a_set(base, tmp_path, capsys):
    folder, _ = experiments.experiment(tmp_path / "exp", base, "lora")
    heard = data_dir(tmp_path / "set", 5, 1)
    words = ("--to", "openai", "--scale", "0", "--check_set", heard)
    assert run(folder, tmp_path / "out", *words) == 0
    assert f"ours on {COUNT} utterances of {heard}" in capsys.readouterr().out
    opened = whisper.load_model(str(tmp_path / "out" / "model.pt"), device="cpu")
    assert torch.equal(logits(opened), logits(load_whisper(base)))
    assert run(folder, tmp_path / "none", "--to", "adapter", "--scale", "0.5") == 2


def test_what_reads_otherwise_is_not_kept(base, tmp_path, monkeypatch, capsys):
    folder, _ = experiments.experiment(tmp_path / "exp", base, "lora")
    right = check.READERS["openai"]

    def wrong(*args):
        found = right(*args)
        found["noise1"] = (*found["noise1"][:4], 11)
        return found

    monkeypatch.setitem(check.READERS, "openai", wrong)
    assert run(folder, tmp_path / "out", "--to", "openai") == 1
    assert "in 1 of 3 utterances, first noise1 at token 5" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["exp"]


def test_names_are_one_to_one(base):
    names = [name for name, _ in load_whisper(base).named_parameters()]
    assert len({hf.hf_name(name) for name in names}) == len(names)


def test_merges_are_those_of_the_ranks():
    pairs = hf.merges(Vocabulary.of(51865))
    assert len(pairs) == len(set(pairs)) == 50000
    names = Vocabulary.of(51865).token_list()
    joined = [first + second for first, second in itertools.islice(pairs, 2000)]
    assert joined == names[256:2256]


REFUSED = {
    "no experiment": (["gone", "out"], r"gone/config.yaml: no such file"),
    "no such format": (["exp", "out", "--to", "onnx"], "invalid choice: 'onnx'"),
    "not empty": (["exp", "full"], "full is there already: choose another folder"),
    "a file is there": (["exp", "file"], "file is there already"),
    "below a file": (["exp", "file/out"], "could not write file/out"),
    "a place that takes no folder": (
        ["exp", "/proc/nothing/out"],
        "could not write /proc/nothing/",
    ),
    "no audio file": (["exp", "out", "--check_set", "lost"], "lost.wav"),
    "truncated audio": (["exp", "out", "--check_set", "short"], "short.wav"),
    "empty set": (["exp", "out", "--check_set", "empty"], "empty: holds no utterance"),
    "adapter without base": (["a.safetensors", "out"], "on which Whisper"),
    "no adapter file": (["a.safetensors", "out", "--whisper", "base"], "does not exist"),
    "truncated adapter": (["cut.safetensors", "out", "--whisper", "base"], "truncated, damaged"),
    "foreign adapter": (["base", "out", "--whisper", "base"], "not of espnet_blora"),
    "truncated base": (["a.safetensors", "out", "--whisper", "cut.safetensors"], "not a readable"),
    "another base": (["exp", "out", "--model_file", "exp/other.pth"], "wrong base"),
    "cut checkpoint": (["exp", "out", "--model_file", "exp/cut.pth"], "truncated or corrupted"),
    "no checkpoint": (["exp", "out", "--model_file", "9epoch.pth"], "none of 9epoch.pth"),
    "packed": (["model.zip", "out"], "is a packed model: unpack it"),
    "scale": (["exp", "out", "--scale", "much"], "--scale"),
    "count": (["exp", "out", "--check", "0"], "--check 0: 1 or more"),
    "no set": (["exp", "out", "--check_set", "sets"], "sets/utt2lang"),
    "new languages": (["rw", "out"], "51,866 tokens mean large-v3"),
    "precision": (["exp", "out", "--to", "ct2", "--precision", "int4"], "'int4'; allowed: float32"),
    "precision of another": (["exp", "out", "--precision", "int8"], "only --to ct2 has a choice"),
    "new languages to ggml": (
        ["rw", "out", "--to", "ggml", "--check_set", "sets"],
        "51,866 tokens mean large-v3",
    ),
    "rounded on noises": (["exp", "out", "--to", "ggml"], "shows on speech alone"),
    "new languages to openai": (["rw", "out", "--to", "openai"], "51,866 tokens mean large-v3"),
    "threads": (["exp", "out", "--threads", "0"], "--threads 0"),
}


@pytest.fixture(scope="module")
def damaged(base, tmp_path_factory):
    top = tmp_path_factory.mktemp("damaged")
    folder, _ = experiments.experiment(top / "exp", base, "lora")
    experiments.experiment(top / "rw", base, "lora", new=("rw",))
    other = str(top / "other.safetensors")
    save_whisper(lively(seed=1), other, dtype=torch.float32)
    made, _ = experiments.experiment(top / "second", other, "lora")
    (folder / "other.pth").write_bytes((made / "valid.acc.best.pth").read_bytes())
    (folder / "cut.pth").write_bytes((folder / "valid.acc.best.pth").read_bytes()[:-500])
    (top / "base").symlink_to(base)
    (top / "base.safetensors").symlink_to(base)
    (top / "cut.safetensors").write_bytes((top / "base").read_bytes()[:3000])
    (top / "full").mkdir()
    (top / "full" / "x").touch()
    (top / "file").touch()
    for name in ("lost", "short", "empty"):
        (top / name).mkdir()
        lines = {"wav.scp": f"a {name}.wav\n", "text": "a hi\n", "utt2lang": "a en\n"}
        for file, line in lines.items():
            (top / name / file).write_text("" if name == "empty" else line)
    (top / "short.wav").write_bytes(b"RIFF\x00\x00")
    return top


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(damaged, case, capsys, monkeypatch):
    words, message = REFUSED[case]
    monkeypatch.chdir(damaged)
    here = {"base": str(damaged / "base.safetensors")}
    words = [here.get(word, word) for word in words]
    before = sorted(damaged.rglob("*"))
    try:
        status = export.main([*words, *([] if "--to" in words else ["--to", "hf"])])
    except SystemExit as end:
        status = end.code
    assert status == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(lines) == 1 and message in lines[0], lines
    assert sorted(damaged.rglob("*")) == before
