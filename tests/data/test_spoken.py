"""Speech where no old audio is at hand: languages, the same bits, what nobody can speak."""

import pytest
import soundfile

from espnet_blora.data import espeak, spoken
from espnet_blora.data.spoken import SENTENCES, VOICES, lines_of, speak
from espnet_blora.data.unlabelled import find
from espnet_blora.whisper.vocabulary import Vocabulary


def test_every_language_has_as_many_lines_and_no_line_twice():
    known = Vocabulary.of(51866).languages
    for code in SENTENCES:
        assert code in known and len(set(lines_of(code))) == len(lines_of(code)) == 16
    numbers = lines_of("sv")
    assert len(numbers) == 16 and all(set(line) <= set("0123456789, ") for line in numbers)
    assert set(VOICES) <= set(espeak.variants())


def test_it_is_audio_without_text_and_the_same_again(tmp_path, monkeypatch):
    monkeypatch.setattr(spoken, "SENTENCES", {"zh": SENTENCES["zh"][:2]})
    monkeypatch.setattr(spoken, "_NUMBERS", 1)
    for name in ("one", "two"):
        speak(tmp_path / name, ["zh", "sv"])
    places, languages = find(tmp_path / "one", ["zh", "sv"])
    assert len(places) == (2 + 1) * len(VOICES)
    assert sorted(languages.values()) == ["sv"] * 4 + ["zh"] * 8
    seconds = [soundfile.info(place.path).duration for place in places.values()]
    assert min(seconds) > 1
    one, two = (sorted((tmp_path / n).glob("*.wav")) for n in ("one", "two"))
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in two]
    assert len({p.read_bytes() for p in one}) == len(one)
    # what is there stays
    one[-1].unlink()
    speak(tmp_path / "one", ["zh", "sv"])
    assert not one[-1].exists()
    speak(tmp_path / "one", ["zh"])  # but not for other languages
    assert one[-1].exists() and len(find(tmp_path / "one", ["zh"])[0]) == 8


def test_what_cannot_be_spoken(tmp_path):
    with pytest.raises(ValueError, match="nothing can be spoken in br, yo: espeak-ng has no such"):
        speak(tmp_path / "none", ["en", "br", "yo"])
    assert not (tmp_path / "none").exists()
