"""The program that writes what the base hears: the data directory of `retain:`."""

from functools import partial

import numpy as np
import soundfile

from espnet_blora.bin import pseudo_label
from espnet_blora.data.kaldi import validate
from espnet_blora.decoding import open_experiment
from espnet_blora.decoding.options import DecodingOptions
from espnet_blora.decoding.scaling import moved
from espnet_blora.decoding.transcriber import Transcriber
from espnet_blora.utils.keyed import read_keyed
from tests.bin.test_moments import world  # noqa: F401


def run(world, output, *sources, **options):  # noqa: F811
    words = [f"--{k}={v}" for k, v in {"threads": 1, **options}.items()]
    exp = ["--asr_exp", str(world / "asr_lora")]
    return pseudo_label.main([*sources, *exp, "--output", str(output), *words])


def test_the_base_says_the_texts(world, tmp_path, capsys, caplog):  # noqa: F811
    sources = [str(world / name) for name in ("old_a", "old_b")]
    assert run(world, tmp_path / "said", *sources) == 0
    left_out = caplog.text.count("no text that ends; left out")
    assert f"{6 - left_out} of 6 utterances" in capsys.readouterr().out and left_out < 3
    validate(tmp_path / "said")
    texts = read_keyed(tmp_path / "said" / "text")
    assert read_keyed(tmp_path / "said" / "utt2lang")["old_b-utt2"] == "zh"
    # not what the adapted model says
    recogniser = open_experiment(world / "asr_lora", merge=False, packed=False)
    options = DecodingOptions(language="en", beam_size=1, drop_quiet=False)
    file = str(world / "old_a" / "2.wav")
    heard = []
    for scale in (0.0, 1.0):
        with moved(recogniser, scale):
            (transcript,) = Transcriber(recogniser, options).transcribe([file])
            heard.append(" ".join(transcript.text.split()))
    assert texts["old_a-utt2"] == heard[0] != heard[1]


def test_mistakes_are_one_line(world, tmp_path, mistake):  # noqa: F811
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16000)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "wav.scp").write_text(f"rec {world / 'old_a' / '2.wav'}\n")
    (tmp_path / "cut" / "segments").write_text("utt rec 0.0 0.1\n")
    program = partial(run, world, tmp_path / "out")
    for source, message in (
        (tmp_path / "empty.wav", "empty.wav: holds no samples"),
        (tmp_path / "cut", "utt is a part of a recording (segments)"),
        (tmp_path / "gone", "neither a Kaldi data directory nor an audio file"),
    ):
        said = mistake("pseudo_label", program, str(source))
        assert message in said and "\n" not in said.strip()
    assert not (tmp_path / "out").exists()
