"""Stage 5: the token list of the launcher's Whisper, and lists of another size refused."""

import pytest

from espnet_blora.plugin.settings import WHISPER
from espnet_blora.plugin.vocabulary import check_vocabulary, export_vocabulary, vocabulary_of
from espnet_blora.whisper.vocabulary import Vocabulary, read_token_list


@pytest.mark.parametrize(("spec", "n_vocab"), [("large-v2", 51865), ("large-v3", 51866)])
def test_size_of_the_launcher(monkeypatch, tmp_path, spec, n_vocab):
    monkeypatch.setenv(WHISPER, spec)
    path = tmp_path / "data" / "tokens.txt"
    export_vocabulary(str(path), "whisper_multilingual", whisper_language="noinfo")
    assert read_token_list(path) == Vocabulary.of(n_vocab).token_list()
    assert [p.name for p in path.parent.iterdir()] == ["tokens.txt"]


def test_another_size_rewrites_the_file(monkeypatch, tmp_path, caplog):
    path = tmp_path / "tokens.txt"
    for spec, n_vocab in (("tiny", 51865), ("turbo", 51866)):
        monkeypatch.setenv(WHISPER, spec)
        export_vocabulary(str(path), "whisper_multilingual")
        assert vocabulary_of(path).n_vocab == n_vocab
    assert "of another vocabulary, rewritten for whisper_multilingual, 51866 tokens" in caplog.text


def test_standard_output(monkeypatch, capsys):
    monkeypatch.setenv(WHISPER, "tiny")
    export_vocabulary("-", "whisper_multilingual")
    assert capsys.readouterr().out.split("\n")[:-1] == Vocabulary.of(51865).token_list()


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("", {}, "which Whisper.*--whisper SIZE_OR_FILE"),
        ("tiny.en", {}, "English-only"),
        ("tiny", {"whisper_model": "whisper_en"}, "only whisper_multilingual"),
        ("tiny", {"add_token_file_name": "data/nlsyms.txt"}, "data/nlsyms.txt"),
        ("tiny", {"sot_asr": True}, "sot_asr"),
    ],
)
def test_refused(monkeypatch, tmp_path, spec, options, message):
    monkeypatch.setenv(WHISPER, spec)
    path = tmp_path / "tokens.txt"
    with pytest.raises(ValueError, match=message):
        export_vocabulary(
            **{"output": str(path), "whisper_model": "whisper_multilingual"} | options
        )
    assert not path.exists()


def test_vocabulary_of_paths_and_lists(tmp_path):
    tokens = Vocabulary.of(51866).token_list()
    assert vocabulary_of(tokens) is vocabulary_of(tuple(tokens)) is Vocabulary.of(51866)
    with pytest.raises(FileNotFoundError, match="tokens.txt: no token list; stage 5"):
        vocabulary_of(tmp_path / "tokens.txt")
    (tmp_path / "tokens.txt").write_text("<blank>\n<unk>\n", encoding="utf-8")
    with pytest.raises(ValueError, match="tokens.txt: 2 tokens"):
        vocabulary_of(str(tmp_path / "tokens.txt"))


def test_mismatch_with_the_model_is_an_error():
    check_vocabulary(Vocabulary.of(51865), 51865, "small")
    with pytest.raises(ValueError, match="51865 tokens, but Whisper 'large-v3' has 51866.*stage 5"):
        check_vocabulary(Vocabulary.of(51865), 51866, "large-v3")
