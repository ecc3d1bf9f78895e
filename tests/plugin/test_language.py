"""utt2lang beside wav.scp: found, checked, and every gap an error that names the utterance."""

import pytest

from espnet_blora.plugin.data_checks import Languages
from espnet_blora.whisper.vocabulary import Vocabulary


def data_dir(path, lines):
    path.mkdir(parents=True)
    (path / "wav.scp").write_text("a a.wav\n", encoding="utf-8")
    (path / "utt2lang").write_text(lines, encoding="utf-8")
    return path / "wav.scp"


def test_they_lie_beside_the_audio(tmp_path):
    wav = data_dir(tmp_path / "train", "a zh\nb en\n")
    languages = Languages.beside(str(wav), Vocabulary.of(51865))
    assert (languages["a"], languages["b"]) == ("zh", "en")
    assert languages.source == tmp_path / "train" / "utt2lang"


def test_each_code_is_looked_up_once_and_may_be_a_name(tmp_path, monkeypatch):
    layout, asked = Vocabulary.of(51865), []
    real = Vocabulary.language_code
    monkeypatch.setattr(
        Vocabulary, "language_code", lambda self, code: asked.append(code) or real(self, code)
    )
    lines = "".join(f"u{n} {'Chinese' if n % 2 else 'en'}\n" for n in range(100))
    languages = Languages.beside(data_dir(tmp_path / "x", lines), layout)
    assert asked == ["en", "Chinese"]
    assert [languages[f"u{n}"] for n in range(100)] == ["en", "zh"] * 50


def test_missing_file_names_it_and_the_remedy(tmp_path):
    wav = data_dir(tmp_path / "train", "")
    (tmp_path / "train" / "utt2lang").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"train/utt2lang: not found.*<utterance-id> <code>"
    ):
        Languages.beside(wav, Vocabulary.of(51865))


def test_missing_id_names_it_and_the_file(tmp_path):
    languages = Languages.beside(data_dir(tmp_path / "x", "a zh\n"), Vocabulary.of(51865))
    with pytest.raises(ValueError, match=r"utterance 'c' has no language .*x/utt2lang"):
        languages["c"]
    with pytest.raises(ValueError, match="no utt2lang was read"):
        Languages()["c"]


@pytest.mark.parametrize("code", ["xx", "yue", ""])
def test_unknown_code_names_file_and_utterance(tmp_path, code):
    wav = data_dir(tmp_path / "x", f"a zh\nb {code}\n")
    with pytest.raises(ValueError, match=r"x/utt2lang: utterance 'b': language .*allowed: "):
        Languages.beside(wav, Vocabulary.of(51865))


def test_allowed_codes_depend_on_the_size(tmp_path):
    wav = data_dir(tmp_path / "x", "b yue\n")
    assert Languages.beside(wav, Vocabulary.of(51866))["b"] == "yue"


def test_duplicates_are_named_by_line(tmp_path):
    wav = data_dir(tmp_path / "x", "a zh\na en\n")
    with pytest.raises(ValueError, match=r"utt2lang:2: duplicate id 'a'"):
        Languages.beside(wav, Vocabulary.of(51865))


def test_whisper_language_counts_for_all_where_there_is_no_file(tmp_path):
    wav = data_dir(tmp_path / "x", "")
    (tmp_path / "x" / "utt2lang").unlink()
    languages = Languages.beside(wav, Vocabulary.of(51865), "zh")
    assert (languages["a"], languages["b"]) == ("zh", "zh")
    with pytest.raises(ValueError, match="preprocessor_conf.whisper_language: .*'xx'"):
        Languages.beside(wav, Vocabulary.of(51865), "xx")


@pytest.mark.parametrize(("code", "told"), [("zh", "1 of 3"), ("en", "2 of 3"), (None, "")])
def test_whisper_language_beside_a_file_that_says_something_else(tmp_path, code, told, caplog):
    wav = data_dir(tmp_path / "x", "a zh\nb en\nc zh\n")
    assert Languages.beside(wav, Vocabulary.of(51865), code)["b"] == "en"
    assert (f"for {told} utterances: utt2lang decides" in caplog.text) == bool(told)
    caplog.clear()
    Languages.beside(data_dir(tmp_path / "y", "a zh\n"), Vocabulary.of(51865), "zh")
    assert "utt2lang decides" not in caplog.text
