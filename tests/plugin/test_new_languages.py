"""A language that Whisper lacks, through ESPnet's trainer and decoding: its row trains alone."""

from argparse import Namespace

import numpy as np
import pytest
import torch
import yaml
from espnet2.tasks.asr import ASRTask

from espnet_blora.adapters import get_adapter
from espnet_blora.plugin.espnet_inference import WhisperSpeech2Text
from espnet_blora.plugin.settings import NEW_LANGUAGES
from espnet_blora.plugin.vocabulary import export_vocabulary, fill_new_languages
from espnet_blora.whisper.new_tokens import find
from espnet_blora.whisper.vocabulary import Vocabulary
from tests.plugin.tiny import BLORA, Experiment

LAYOUT = Vocabulary.of(51865, ["kab", "rw"])
TABLE = "decoder.decoders.token_embedding.new_weight"
CODES = "decoder.decoders.token_embedding.new_codes"
NEWBOB = {
    "scheduler": "newbob",
    "scheduler_conf": {"improvement_threshold": 1.0, "annealing_factor": 0.5},
}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Its data are Kinyarwanda and English; its token list has Kabyle, too."""
    made = Experiment(tmp_path_factory.mktemp("new"))
    made.tokens.write_text("".join(f"{token}\n" for token in LAYOUT.token_list()), "utf-8")
    for folder in (made.train, made.valid):
        text = (folder / "utt2lang").read_text().replace(" zh", " rw")
        assert " rw" in text
        (folder / "utt2lang").write_text(text)
    return made


@pytest.fixture(scope="module")
def trained(experiment):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(NEW_LANGUAGES, "kab,rw")
        return {
            "blora": experiment.train_here("new_blora", **BLORA, **NEWBOB),
            "full": experiment.train_here("new_full", max_epoch=1, freeze_param=["encoder"]),
        }


def load(folder, state=None):
    path = folder / "valid.acc.best.pth"
    if state is not None:
        path = folder / "changed.pth"
        torch.save(state, path)
    return ASRTask.build_model_from_file(folder / "config.yaml", path)[0]


def test_its_embedding_is_saved_and_moved_beside_the_adapter_and_nothing_else(trained, caplog):
    state = torch.load(trained["blora"] / "valid.acc.best.pth")
    base = [k for k in state if k.endswith(("weight", "bias")) and k != TABLE]
    assert base == []
    with caplog.at_level("INFO"):
        start = ASRTask.build_model_from_file(trained["blora"] / "config.yaml", None)[0]
    before = start.get_parameter(TABLE)
    kabyle, rwanda = state[TABLE] - before.detach()
    assert rwanda.abs().max() > 1e-3
    assert kabyle.abs().max() < rwanda.abs().max() / 10  # weight decay alone: nobody speaks it
    conf = yaml.safe_load((trained["blora"] / "config.yaml").read_text())
    assert conf["decoder_conf"]["new_languages"] == ["kab", "rw"]
    assert any("trained beside the adapter" in line for line in caplog.messages)


def test_it_counts_as_trainable(trained):
    model = load(trained["blora"])
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert TABLE in trainable and all("lora_" in n or "rho_" in n for n in trainable - {TABLE})
    adapter = get_adapter(model)
    assert adapter.report()["trainable"] == sum(
        p.numel() for p in model.parameters() if p.requires_grad
    )
    assert TABLE not in adapter.state.base_names


def test_newbob_was_stepped_on_the_validation_loss(trained):
    states = torch.load(trained["blora"] / "checkpoint.pth")
    (scheduler,) = states["schedulers"]
    losses = [states["reporter"]["stats"][epoch]["valid"]["loss"] for epoch in (1, 2)]
    assert scheduler["previous"] == pytest.approx(float(losses[-1]))
    (group,) = states["optimizers"][0]["param_groups"][:1]
    assert group["lr"] == pytest.approx(0.005)  # halved once, after the second epoch


@pytest.mark.parametrize("kind", ["blora", "full"])
def test_decoding_needs_no_option_and_never_says_the_token(trained, kind):
    folder = trained[kind]
    decode = WhisperSpeech2Text(
        folder / "config.yaml", folder / "valid.acc.best.pth", beam_size=3, ctc_weight=0.0,
        maxlenratio=-6, batch_size=2,
    )  # fmt: skip
    assert decode.vocabulary == LAYOUT
    waves = [np.random.default_rng(n).standard_normal(8000 + n).astype("float32") for n in (0, 1)]
    results = decode.batch_decode(waves, language=["rw", "en"])
    for found, code in zip(results, ("rw", "en"), strict=True):
        text, _, ids, hypothesis = found[0]
        assert hypothesis.yseq[1] == LAYOUT.languages[code]
        assert len(ids) <= 6 and max(ids, default=0) < LAYOUT.n_vocab
        assert text == " ".join(LAYOUT.decode(ids).split())


@pytest.mark.parametrize("kind", ["blora", "full"])
def test_a_checkpoint_without_the_embedding_is_refused(trained, kind):
    folder = trained[kind]
    state = torch.load(folder / "valid.acc.best.pth")
    with pytest.raises(ValueError, match=f"lacks {TABLE}, the embeddings of .* kab rw"):
        load(folder, {k: v for k, v in state.items() if k != TABLE})
    with pytest.raises(ValueError, match="new languages are none, the model's are kab rw"):
        load(folder, {k: v for k, v in state.items() if k not in (TABLE, CODES)})
    swapped = torch.frombuffer(bytearray(b"rw kab"), dtype=torch.uint8)
    with pytest.raises(ValueError, match="new languages are rw kab, the model's are kab rw"):
        load(folder, state | {CODES: swapped})
    with pytest.raises(ValueError, match=r"shape \(2, 8\) in the checkpoint, \(2, 16\) in the"):
        load(folder, state | {TABLE: state[TABLE][:, :8]})
    with pytest.raises(ValueError, match="holds NaN or inf"):
        load(folder, state | {TABLE: state[TABLE] * float("nan")})


def test_the_unadapted_base_is_decoded_with_the_token_as_it_starts(experiment, monkeypatch):
    from espnet_blora.plugin.base_model import write_base_model

    monkeypatch.setenv(NEW_LANGUAGES, "")  # the token list says them
    folder = experiment.folder / "new_base"
    experiment.arguments("new_base", **BLORA)
    mark = write_base_model(
        str(experiment.folder / "new_base.yaml"), str(experiment.tokens), str(folder),
        str(experiment.whisper),
        options=["--token_type", "whisper_multilingual", "--bpemodel", "whisper_multilingual"],
    )  # fmt: skip
    model = ASRTask.build_model_from_file(folder / "config.yaml", mark)[0]
    _, table = find(model)
    assert table.languages == ("kab", "rw")
    known = list(Vocabulary.of(51865).languages.values())
    torch.testing.assert_close(table.new_weight[0], table.weight[known].mean(0))


def test_launcher_and_token_list_must_agree_in_training(experiment, monkeypatch):
    for told, says in (("rw", "says rw"), ("", "says none"), ("rw kab", "says rw kab")):
        monkeypatch.setenv(NEW_LANGUAGES, told)
        with pytest.raises(ValueError, match=f"languages are kab rw, .*{says}. Run stage 5"):
            experiment.train_here("disagree", **BLORA)
    monkeypatch.setenv(NEW_LANGUAGES, "kab rw")
    conf = Namespace(decoder_conf={"new_languages": ["rw"]})
    with pytest.raises(ValueError, match="decoder_conf.new_languages is .'rw'., the token list"):
        fill_new_languages(conf, LAYOUT)


def test_stage_5_writes_them(monkeypatch, tmp_path):
    monkeypatch.setenv(NEW_LANGUAGES, "kab,rw")
    monkeypatch.setenv("ESPNET_BLORA_WHISPER", "large-v2")
    export_vocabulary(str(tmp_path / "tokens.txt"), "whisper_multilingual")
    assert Vocabulary.of_tokens((tmp_path / "tokens.txt").read_text().split("\n")[:-1]) is LAYOUT
    monkeypatch.setenv(NEW_LANGUAGES, "sw")
    with pytest.raises(ValueError, match="new language 'sw' is one that this Whisper has"):
        export_vocabulary(str(tmp_path / "tokens.txt"), "whisper_multilingual")
