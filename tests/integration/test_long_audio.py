"""Windows of any kind and long files: read as well as utterances, and nothing heard as nothing."""

import importlib
from dataclasses import replace

import numpy as np
import pytest
from whisper.tokenizer import get_tokenizer

from benchmarks.long_audio import CONDITIONS, as_if_trained_on, compare
from espnet_blora.data.mini_cs import build
from espnet_blora.decoding import DecodingOptions, Transcriber, open_whisper
from espnet_blora.whisper.checkpoint import load_whisper
from tests.integration.conftest import ROOT, TINY

pytestmark = pytest.mark.integration
RATE = 16000


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The first 80 utterances of both retention sets, in voices that the base has not heard."""
    folder = tmp_path_factory.mktemp("corpus")
    build(folder, ["ret_en", "ret_zh"], scale=0.4)
    return folder


@pytest.fixture(scope="module")
def data(corpus):
    return corpus / "ret_en"


@pytest.fixture(scope="module")
def base(data):
    return replace(open_whisper(TINY, pad_to="batch"), lengths=as_if_trained_on(data))


@pytest.fixture(scope="module")
def training():
    """The program that trained the base, with its evaluation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "egs2/mini_cs/asr1/local")
        return importlib.import_module("train_base")


TOKENIZERS = {code: get_tokenizer(True, language=code, task="transcribe") for code in ("en", "zh")}


@pytest.mark.parametrize("name", ["ret_en", "ret_zh"])
def test_the_base_reads_windows_of_any_kind_alike(training, corpus, name):
    """Padded to the batch, to 30 s, and 2 to 8 joined; the former base made 90 % at 30 s."""
    spoken = training.Set(corpus / name, TOKENIZERS)
    figures = training.figures_of(load_whisper(TINY), name, spoken, TOKENIZERS["en"])
    rates = [figures[f"{name}{kind}"] for kind in ("", "_30s", "_joined")]
    assert max(rates) - min(rates) <= 1.5 and max(rates) < 4, figures
    assert figures[f"{name}_cut"] < 4  # without the quiet around the speech


def test_the_base_hears_nothing_where_nobody_speaks(training, corpus):
    """Silence, and 12 clips of hum, noise and tones, as they are and padded to 30 s."""
    spoken = training.Set(corpus / "ret_en", TOKENIZERS)
    assert training.heard_in_silence(load_whisper(TINY), spoken, TOKENIZERS["en"], 12) == 0


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
