"""The program that collects moments: sources, resumption, merging, mistakes in one line."""

from functools import partial

import numpy as np
import pytest
import soundfile
import torch

from espnet_blora.adapters.moments import read_moments, read_sums
from espnet_blora.bin import moments
from espnet_blora.data import spoken
from espnet_blora.decoding import open_experiment
from espnet_blora.whisper.checkpoint import save_whisper
from tests import experiments
from tests.decoding.small import LAYOUT
from tests.whispers import ending, lively


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Return a folder with an adapted experiment and two directories of unlabelled audio."""
    folder = tmp_path_factory.mktemp("moments")
    whisper = str(folder / "lively.safetensors")
    save_whisper(ending(lively(n_text_ctx=64), LAYOUT.eot), whisper, dtype=torch.float32)
    experiments.experiment(folder / "asr_lora", whisper, "lora")
    random = np.random.default_rng(0)
    for name, code in (("old_a", "en"), ("old_b", "zh")):
        (folder / name).mkdir()
        lines = {"wav.scp": [], "utt2lang": []}
        for number in range(3):
            path = folder / name / f"{number}.wav"
            soundfile.write(path, 0.1 * random.standard_normal(3000 + 2000 * number), 16000)
            lines["wav.scp"].append(f"utt{number} {path}\n")
            lines["utt2lang"].append(f"utt{number} {code}\n")
        for table, rows in lines.items():
            (folder / name / table).write_text("".join(rows))
    return folder


@pytest.fixture
def run(world, tmp_path):
    def command(*sources, output="m", **options):
        options = {"asr_exp": world / "asr_lora", "threads": 1, **options}
        words = [f"--{k}={v}" for k, v in options.items() if v is not None]
        flags = [word for word in sources if word.startswith("--")]
        places = [str(world / s) if (world / s).exists() else s for s in sources if s not in flags]
        return moments.main([*places, "--output", str(tmp_path / output), *words, *flags])

    return command


def test_the_base_hears_through_an_adapted_experiment(world, run, tmp_path, capsys):
    assert run("old_a", "old_b") == 0
    said = capsys.readouterr().out
    # 6 Linears a layer and 4 more of the decoder's cross-attention; inputs: see inputs_of
    assert "m: 32 Linears with 21 inputs" in said and "6 utterances" in said
    assert "heard by the base model" in said
    recogniser = open_experiment(world / "asr_lora", merge=False, packed=False)
    weights = dict(recogniser.as_trained().named_parameters())
    read = read_moments(tmp_path / "m", weights, recogniser.adapter.layers, "batch")
    assert read.made == {"pad_to": "batch", "through": "base", "chunk_length": None}
    assert run("old_a", "old_b", "--adapted", output="adapted") == 0
    layer = "decoder.decoders.blocks.1.mlp.2"
    adapted = read_moments(tmp_path / "adapted", weights, [layer])
    assert adapted.made["through"] == "adapted"
    assert not torch.equal(adapted.matrix(layer), read.matrix(layer))


def test_more_audio_later_and_sums_of_parts(world, run, tmp_path, capsys, mistake):
    assert run("old_a", "old_b") == 0
    whole = read_sums(tmp_path / "m.sums")
    assert run("old_a", output="part") == 0
    assert run("old_a", "old_b", output="part") == 0
    assert run("old_b", output="other") == 0
    assert run("old_a", output="first") == 0
    parts = [str(tmp_path / name) for name in ("first.sums", "other.sums")]
    assert moments.main(["--output", str(tmp_path / "merged"), "--merge", *parts]) == 0
    for name in ("part", "merged"):
        sums = read_sums(tmp_path / f"{name}.sums")
        assert sums.heard.keys() == whole.heard.keys() and sums.positions == whole.positions
        for key, total in whole.sums.items():
            torch.testing.assert_close(sums.sums[key], total, rtol=1e-12, atol=1e-12)
    assert "utt0: name their source" in mistake("moments", partial(run, output="part"), "old_b")
    said = mistake("moments", partial(run, chunk_length=5), "old_a", "old_b")
    assert "chunk_length None and 5.0" in said
    assert str(tmp_path / "m.sums") in said and "--output" in said


def test_silence_is_named_and_does_not_count(world, run, tmp_path, caplog, mistake):
    silent = str(tmp_path / "silent.wav")
    soundfile.write(silent, np.zeros(5 * 16000), 16000)
    options = {"language": "en"}
    assert run("old_a", output="spoken") == 0
    assert f"{tmp_path / 'spoken'}: 0.0 min were heard" in caplog.text
    assert run(silent, "old_a", **options) == 0
    assert f"{silent}: silence" in caplog.text
    with_silence, without = read_sums(tmp_path / "m.sums"), read_sums(tmp_path / "spoken.sums")
    assert silent not in with_silence.heard and with_silence.positions == without.positions
    said = mistake("moments", partial(run, output="none", **options), silent)
    assert "no speech was heard" in said and not (tmp_path / "none").exists()


def test_without_old_audio_some_is_spoken(world, run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(spoken, "SENTENCES", {"en": spoken.SENTENCES["en"][:1]})
    assert run(speak="en") == 0
    said = capsys.readouterr().out
    assert f"{len(spoken.VOICES)} utterances" in said
    sums = read_sums(tmp_path / "m.sums")
    assert set(sums.heard) == {f"{tmp_path}/m.spoken/en-{n:03d}" for n in range(4)}
    assert run("old_a", speak="en") == 0  # beside recordings, heard once
    assert len(read_sums(tmp_path / "m.sums").heard) == 7


def test_mistakes_are_one_line(world, run, mistake, tmp_path):
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16000)
    wave = np.full(4000, np.nan)
    soundfile.write(tmp_path / "nan.wav", wave, 16000, subtype="FLOAT")
    (tmp_path / "text.wav").write_text("no audio")
    for words, options, message in (
        ([str(tmp_path / "empty.wav")], {}, "empty.wav: holds no samples"),
        ([str(tmp_path / "nan.wav")], {"language": "en"}, "nan.wav: NaN or infinite samples"),
        ([str(tmp_path / "text.wav")], {}, "text.wav: cannot be read as audio"),
        (["nowhere"], {}, "nowhere: neither a Kaldi data directory nor an audio file"),
        (["old_a"], {"target_modules": "querry"}, "'querry' names no module; did you"),
        (["old_a"], {"rank": "0"}, "--rank is 0"),
        (["old_a"], {"asr_exp": None}, "give --asr_exp and at least one"),
        ([], {}, "give --asr_exp and at least one"),
        ([], {"speak": "en br"}, "nothing can be spoken in br"),
        ([], {"speak": ""}, "--speak names no language"),
    ):
        assert message in mistake("moments", partial(run, **options), *words)


def test_another_base_is_not_gone_on_with(world, run, mistake, tmp_path):
    assert run("old_a") == 0
    other = str(tmp_path / "other.safetensors")
    save_whisper(lively(n_text_ctx=64, seed=1), other, dtype=torch.float32)
    experiments.experiment(tmp_path / "asr_lora", other, "lora")
    run = partial(run, asr_exp=tmp_path / "asr_lora")
    assert "another base" in mistake("moments", run, "old_a")
