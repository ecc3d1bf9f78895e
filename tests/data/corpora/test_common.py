"""Ids that sort as speakers do, blanks that Kaldi accepts, letters of full width, language tags."""

import pytest
import whisper.tokenizer
from hypothesis import given
from hypothesis import strategies as st

from espnet_blora.data.corpora import common
from espnet_blora.data.corpora.common import (
    half_width,
    single_blanks,
    speaker_name,
    utterance_id,
)


@given(st.lists(st.tuples(st.text("a9_.-é ", min_size=1), st.text("a9_.-: "))))
def test_ids_sort_as_their_speakers(pairs):
    named = [(speaker_name(who), utterance_id(speaker_name(who), what)) for who, what in pairs]
    assert [who for who, _ in sorted(named, key=lambda n: n[1])] == sorted(who for who, _ in named)
    assert all(id.isascii() and " " not in id and ":" not in id for _, id in named)


@given(st.text())
def test_blanks_are_single_and_plain(text):
    clean = single_blanks(text)
    assert clean == " ".join(clean.split())
    assert not [c for c in clean if c.isspace() and c != " "]
    assert single_blanks(clean) == clean


def test_joiners_stay_and_unseen_marks_go():
    assert single_blanks("\ufeffمی\u200cرود\u00a0\u200f او\u2028") == "می\u200cرود او"
    assert single_blanks("ខ្ញុំ\u200bចង់") == "ខ្ញុំ ចង់"
    assert single_blanks("क्‍ष\u3000\u2009x\x07y") == "क्‍ष xy"


def test_full_width_letters_and_digits_only():
    assert half_width("Ｔ恤，３ｋ！ＡＺａｚ０９") == "T恤，3k！AZaz09"


def test_every_language_of_whisper_and_no_other_is_a_code():
    assert set(common.WHISPER_CODES) == set(whisper.tokenizer.LANGUAGES)
    words = common._TABLE.replace("|", " ").split()
    assert len(words) == len(set(words))


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        *(("ara", "ar"), ("cmn", "zh"), ("spa", "es"), ("hin", "hi"), ("eng", "en")),
        *(("jav", "jw"), ("jv_id", "jw"), ("fil_ph", "tl"), ("nob", "no"), ("nb_no", "no")),
        *(("zh-CN", "zh"), ("zh-TW", "zh"), ("zh-HK", "yue"), ("yue_hant_hk", "yue")),
        *(("cmn_hans_cn", "zh"), ("es_419", "es"), ("ar_eg", "ar"), ("sv-SE", "sv")),
        *(("pa-IN", "pa"), ("nn-NO", "nn"), ("hy-AM", "hy"), ("EN", "en"), ("arz", "ar")),
        *(("rw", None), ("fy-NL", None), ("ckb_iq", None), ("kab", None), ("ceb", None)),
        *(("", None), ("english", None), ("or_in", None), ("ory", None)),
    ],
)
def test_tags(tag, code):
    assert common.whisper_code(tag) == code


def test_language_that_whisper_lacks_must_be_given():
    assert common.prompt_code("rw", "rw") == "rw"
    assert common.prompt_code("zh-CN") == "zh"
    with pytest.raises(ValueError, match="'rw'.*language=CODE: .*yue"):
        common.prompt_code("rw")
    with pytest.raises(ValueError, match="language='<en>'"):
        common.prompt_code("en", "<en>")
