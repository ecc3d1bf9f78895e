"""Utterances joined to one file: read as well as one by one, and minutes of nothing as nothing."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.long_audio import CONDITIONS, as_if_trained_on, compare
from espnet_blora.data.mini_cs import build
from espnet_blora.decoding import DecodingOptions, Transcriber, open_whisper
from tests.integration.conftest import TINY

pytestmark = pytest.mark.integration
RATE = 16000


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    build(folder, ["ret_en"], scale=0.15)
    return folder / "ret_en"


@pytest.fixture(scope="module")
def base(data):
    return replace(open_whisper(TINY, pad_to="batch"), lengths=as_if_trained_on(data))


def test_joined_utterances_are_read_as_well_as_one_by_one(base, data):
    """30 utterances of some 125 words: 8 points are 10 words; cut evenly, nine of ten are lost."""
    rows = compare(base, data, 30, DecodingOptions(language="en", beam_size=1))
    assert [(pause, noise) for pause, noise, _, _ in rows] == list(CONDITIONS)
    for pause, _, alone, joined in rows:
        assert alone < 30
        assert joined - alone <= (15 if pause < 0.2 else 8), rows


def test_minutes_of_nothing_have_no_words(base):
    at = np.arange(60 * RATE) / RATE
    waves = {
        "silence": np.zeros(60 * RATE),
        "hum": 0.1 * np.sin(2 * np.pi * 50 * at),
        "noise": 0.1 * np.random.default_rng(0).standard_normal(60 * RATE),
    }
    found = list(Transcriber(base, DecodingOptions(language="en")).transcribe(waves))
    assert {t.name: (t.text, t.error) for t in found} == dict.fromkeys(waves, ("", ""))
