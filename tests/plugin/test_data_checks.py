"""Data that does not belong together, or cannot be read, is named: file, utterance, remedy."""

import numpy as np
import pytest
import soundfile
from espnet2.train.dataset import ESPnetDataset

from espnet_blora import plugin
from espnet_blora.plugin.data_checks import check_utterances

WAVS, TEXTS = "a a.wav\nb b.wav\n", "a x\nb y\n"


def arguments(folder, wavs=WAVS, texts=TEXTS):
    (folder / "wav.scp").write_text(wavs)
    (folder / "text").write_text(texts)
    return [
        (str(folder / "wav.scp"), "speech", "sound"),
        (str(folder / "text"), "text", "text"),
    ]


def test_good_data_in_any_order(tmp_path):
    check_utterances(arguments(tmp_path, texts="b y\na x z\n"))
    check_utterances([])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wavs": "a a.wav\n"}, r"1 in .*/text but not in .*/wav\.scp: b\. Remedy.*fix_data_dir"),
        ({"texts": "b y\n"}, r"1 in .*/wav\.scp but not in .*/text: a\. Remedy"),
        ({"texts": "a x\nc z\n"}, r"1 in .*/wav\.scp .*: b; 1 in .*/text .*: c\. Remedy"),
        ({"wavs": WAVS + "a c.wav\n"}, r"wav\.scp:3: duplicate id 'a', first seen on line 1"),
        ({"texts": "a x\n y\n"}, r"text:2: empty id"),
        ({"texts": "a x\n\nb y\n"}, r"text:2: empty id"),
        ({"texts": "a\nb y\n"}, r"nothing behind the id in .*/text: a\. Remedy"),
        ({"wavs": "a\nb b.wav\n"}, r"nothing behind the id in .*/wav\.scp: a\. Remedy"),
        ({"wavs": "", "texts": ""}, r"wav\.scp: no utterances"),
    ],
)
def test_what_does_not_belong_together(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        check_utterances(arguments(tmp_path, **change))


def test_a_file_that_is_not_there(tmp_path):
    given = arguments(tmp_path)
    (tmp_path / "text").unlink()
    with pytest.raises(FileNotFoundError, match="text: no such file"):
        check_utterances(given)


def test_many_ids_are_counted_and_the_first_shown(tmp_path):
    many = "".join(f"u{number} x.wav\n" for number in range(20))
    with pytest.raises(ValueError, match=r"20 in .*: u0, u1, u10, u11, u12, .* and 10 more; 2 in"):
        check_utterances(arguments(tmp_path, wavs=many))


@pytest.fixture
def training_data(tmp_path):
    plugin.register()
    soundfile.write(tmp_path / "a.wav", np.full(800, 0.25), 16000)
    (tmp_path / "b.wav").write_bytes(b"RIFF, but no audio")
    wavs = "".join(f"{name} {tmp_path / name}.wav\n" for name in "abc")
    return ESPnetDataset(
        arguments(tmp_path, wavs=wavs, texts="a x\nb y\nc z\nd z\n"),
        preprocess=lambda _, data: data,
    )


def test_training_names_audio_that_cannot_be_read(training_data):
    loader = training_data.loader_dict["speech"]
    assert list(loader) == ["a", "b", "c"] and len(loader) == 3 and "b" in loader
    np.testing.assert_allclose(loader["a"], 0.25)
    for name, why in (("b", "[Ff]ormat|unknown"), ("c", "[Ss]ystem|[Nn]o such")):
        wanted = rf"/{name}\.wav' of utterance '{name}' cannot be read .*({why}).*take its"
        with pytest.raises(ValueError, match=wanted):
            training_data[name]


def test_training_names_an_utterance_of_old_statistics(training_data):
    with pytest.raises(ValueError, match=r"'d' is not in .*/wav\.scp.*stages 10 and 11"):
        training_data["d"]
