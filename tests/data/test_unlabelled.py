"""Audio without text: Kaldi directories with and without segments, plain files."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_blora.data.unlabelled import Clips, find


@pytest.fixture
def folder(tmp_path):
    wave = np.arange(16000) / 32768
    soundfile.write(tmp_path / "one.wav", wave, 16000)
    soundfile.write(tmp_path / "two.wav", wave[:8000], 8000)
    (tmp_path / "wav.scp").write_text(f"b {tmp_path}/one.wav\na {tmp_path}/two.wav\n")
    return tmp_path


def test_a_directory_without_text(folder):
    places, languages = find(folder)
    assert list(places) == [f"{folder}/a", f"{folder}/b"] and languages == {}
    clips = Clips(places)
    assert [len(clips[uid]) for uid in clips] == [16000, 16000]  # a was resampled
    (folder / "segments").write_text("a-1 a 0.5 0.75\nb-1 b 0.25 0.5\n")
    (folder / "utt2lang").write_text("a-1 en\nb-1 zh\n")
    places, languages = find(folder, ["en", "zh"])
    assert languages == {f"{folder}/a-1": "en", f"{folder}/b-1": "zh"}
    np.testing.assert_array_equal(
        Clips(places)[f"{folder}/b-1"], (np.arange(4000, 8000) / 32768).astype(np.float32)
    )
    assert len(Clips(places)[f"{folder}/a-1"]) == 4000


def test_a_file(folder):
    path = str(folder / "one.wav")
    places, languages = find(path)
    assert list(places) == [path] and not languages and len(Clips(places)[path]) == 16000


def test_a_folder_of_audio_files(folder):
    (folder / "wav.scp").unlink()
    (folder / "deep").mkdir()
    (folder / "one.wav").rename(folder / "deep" / "ONE.WAV")
    (folder / "notes.txt").write_text("no audio")
    places, languages = find(folder)
    assert list(places) == [f"{folder}/deep/ONE.WAV", f"{folder}/two.wav"] and languages == {}
    assert list(find(folder, most=1)[0]) == [f"{folder}/deep/ONE.WAV"]
    (folder / "call.m4a").write_bytes(b"something")
    with pytest.raises(ValueError, match="call.m4a: .*ffmpeg"):
        Clips(find(folder)[0])[f"{folder}/call.m4a"]
    for path in (*places, folder / "call.m4a"):
        Path(path).unlink()
    with pytest.raises(FileNotFoundError, match=r"neither wav.scp nor audio files \(.wav .flac"):
        find(folder)


def test_what_cannot_be_used(folder):
    with pytest.raises(FileNotFoundError, match="nowhere: neither a Kaldi data directory nor"):
        find("nowhere")
    (folder / "utt2lang").write_text("a en\n")
    with pytest.raises(ValueError, match="utt2lang: no language for b"):
        find(folder)
    (folder / "utt2lang").unlink()
    (folder / "segments").write_text("a-1 a 5 6\n")
    with pytest.raises(ValueError, match=r"two\.wav: holds no samples from 5 to 6 s"):
        Clips(find(folder)[0])[f"{folder}/a-1"]
    (folder / "wav.scp").write_text("a sph2pipe a.sph |\n")
    with pytest.raises(ValueError, match="'a' is not a file: 'sph2pipe a.sph |'; stage 3"):
        find(folder)


def test_some_of_many(folder):
    (folder / "wav.scp").write_text("".join(f"u{n} {folder}/one.wav\n" for n in range(9)))
    assert list(find(folder, most=3)[0]) == [f"{folder}/u{n}" for n in (0, 3, 6)]
    with pytest.raises(ValueError, match="0 utterances of each set are asked for"):
        find(folder, most=0)
