"""Names of data directories say which corpus, which language and which set they are."""

import pytest

from espnet_blora.data import registry


@pytest.mark.parametrize(
    ("name", "corpus", "part", "options"),
    [
        ("librispeech_test_clean", "librispeech", "test_clean", {}),
        ("aishell_test", "aishell", "test", {}),
        ("commonvoice_zh-CN_test", "commonvoice", "test", {"locale": "zh-CN"}),
        ("fleurs_cmn_hans_cn_test", "fleurs", "test", {"lang": "cmn_hans_cn"}),
        ("fisher_mono_eval", "fisher", "mono_eval", {}),
        ("cs_fleurs_ara-eng_test", "cs_fleurs", "test", {"pair": "ara-eng"}),
    ],
)
def test_a_name_says_where_it_comes_from(name, corpus, part, options):
    found = registry.parse_set_name(name)
    assert (found.name, found.corpus.name, found.set) == (name, corpus, part)
    assert found.options == options


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nosuch_test", "nosuch_test.*seame, arzen"),
        ("librispeech_tset", "librispeech has the sets"),
        ("librispeech_en_test_clean", "librispeech has the sets"),
        ("commonvoice_test", "commonvoice_<locale>_test"),
    ],
)
def test_other_names_are_refused(name, says):
    with pytest.raises(ValueError, match=says):
        registry.parse_set_name(name)


def test_the_folder_is_that_of_the_variable_or_it_is_said_why_not(tmp_path):
    corpus = registry.parse_set_name("aishell_test").corpus
    assert "AISHELL is not set" in registry.corpus_folder(corpus, {})
    message = registry.corpus_folder(corpus, {"AISHELL": str(tmp_path / "nosuch")})
    assert message.startswith("AISHELL=") and "nosuch" in message
    (tmp_path / "data_aishell" / "transcript").mkdir(parents=True)
    (tmp_path / "data_aishell" / "transcript" / "aishell_transcript_v0.8.txt").touch()
    assert registry.corpus_folder(corpus, {"AISHELL": str(tmp_path)}) == tmp_path
