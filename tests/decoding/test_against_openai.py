"""The search with filters and prompts finds the tokens that `whisper.decode` finds.

openai-whisper's own code runs on its own Whisper object with the same weights, one utterance at a
time; ours decodes them in one batch. A random Whisper hears noise in its 30 s window; the shipped
base hears speech at its own length, for which its openai twin has as many positions as there are.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import soxr
import torch
import whisper
from torch import Tensor
from whisper.model import Whisper

from espnet_blora.data.espeak import Run, synthesise
from espnet_blora.decoding.filters import build_filters
from espnet_blora.decoding.prompts import build_prompt
from espnet_blora.decoding.search import search
from espnet_blora.whisper.checkpoint import load_whisper
from espnet_blora.whisper.encoder import encode
from espnet_blora.whisper.vocabulary import Vocabulary
from tests.decoding.small import search_options
from tests.whispers import random_whisper

# of openai-whisper's ranking, in numpy
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")

BASE = Path(__file__).parents[2] / "egs2/mini_cs/asr1/base/tiny_mini_cs.safetensors"
SENTENCES = [
    [("apple bread teacher after dinner", "en")],
    [("我们喜欢咖啡", "cmn"), ("because tired", "en")],
    [("help", "en")],
]


@dataclass
class Setting:
    """A decoder, memories of a batch, and an openai Whisper with the memory of each row."""

    decoder: torch.nn.Module
    memory: Tensor
    lengths: Tensor
    twins: list[tuple[Whisper, Tensor]]
    vocabulary: Vocabulary


def spoken() -> list[Tensor]:
    waves = []
    for sentence in SENTENCES:
        parts = synthesise([Run(text, language, "max") for text, language in sentence], seed=1)
        wave = np.concatenate(parts).astype(np.float32) / 32768
        waves.append(torch.from_numpy(soxr.resample(wave, 22050, 16000)))
    return waves


def batch(model: Whisper, waves: list[Tensor], pad_to: str) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(wave) for wave in waves])
    wave = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    return encode(model.encoder, wave, lengths, pad_to)


def base(pad_to: str = "batch") -> Setting:
    model = load_whisper(BASE).eval()
    memory, lengths = batch(model, spoken(), pad_to)
    twins = []
    for row, length in enumerate(lengths.tolist()):
        twin = Whisper(replace(model.dims, n_audio_ctx=length)).eval()
        state = model.state_dict()
        name = "encoder.positional_embedding"
        twin.load_state_dict(state | {name: state[name][:length]})
        twins.append((twin, memory[row : row + 1, :length]))
    return Setting(model.decoder, memory, lengths, twins, Vocabulary.of(model.dims.n_vocab))


def random() -> Setting:
    """The larger vocabulary; probabilities with peaks, and texts that end."""
    generator = torch.Generator().manual_seed(11)
    model = random_whisper(32, (1, 2), vocab=51866, context=48)
    layout = Vocabulary.of(51866)
    for parameter in model.decoder.parameters():
        if parameter.dim() > 1:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.45)
    table = model.decoder.token_embedding.weight
    table[layout.eot] *= 4.0
    waves = [0.1 * torch.randn(n, generator=generator) for n in (32000, 9000, 3000, 90000)]
    memory, lengths = batch(model, waves, "30s")
    mels = [whisper.log_mel_spectrogram(whisper.pad_or_trim(wave)) for wave in waves]
    twins = [(model, mel.unsqueeze(0)) for mel in mels]
    return Setting(model.decoder, memory, lengths, twins, layout)


MAKERS = {"base": base, "random": random}


@pytest.fixture(scope="module", params=MAKERS)
def setting(request) -> Setting:
    with torch.no_grad():
        return MAKERS[request.param]()


def theirs(setting: Setting, languages, **options) -> list[whisper.DecodingResult]:
    results = []
    for (twin, features), language in zip(setting.twins, languages, strict=True):
        given = options | {"language": language, "without_timestamps": True, "fp16": False}
        results += whisper.decode(twin, features, whisper.DecodingOptions(**given))
    return results


def ours(setting: Setting, languages, **options):
    prompts = [
        build_prompt(
            setting.vocabulary,
            language,
            options.get("task", "transcribe"),
            options.get("prompt"),
            setting.decoder.positional_embedding.shape[0],
        )
        for language in languages
    ]
    chosen = search_options(
        beam_size=options.get("beam_size", 1),
        rule="whisper",
        max_tokens=options.get("sample_len"),
        length_penalty=options.get("length_penalty"),
        patience=options.get("patience", 1.0),
        suppress_tokens=options.get("suppress_tokens"),
        suppress_blank=options.get("suppress_blank"),
    )
    filters = build_filters(setting.vocabulary, chosen)
    return search(
        setting.decoder,
        setting.memory,
        setting.lengths,
        prompts,
        setting.vocabulary.eot,
        chosen,
        filters,
    )


def agree(setting: Setting, **options) -> list[tuple[int, ...]]:
    codes = ("en", "zh", "en", "zh")[: len(setting.twins)]
    results = theirs(setting, codes, **options)
    found = [hypotheses[0] for hypotheses in ours(setting, codes, **options)]
    assert [list(one.ids) for one in found] == [result.tokens for result in results]
    for one, result in zip(found, results, strict=True):
        wanted = result.avg_logprob * (len(result.tokens) + 1)
        assert one.score == pytest.approx(wanted, rel=1e-3, abs=1e-3)
    return [one.ids for one in found]


WAYS = [
    {},
    {"beam_size": 5},
    {"beam_size": 5, "patience": 2.0},
    {"beam_size": 5, "length_penalty": 0.6},
    {"beam_size": 3, "patience": 2.0, "length_penalty": 1.0},
    {"beam_size": 4, "patience": 0.5},
]
DETAILS = [
    {"suppress_tokens": "", "suppress_blank": True},
    {"suppress_tokens": "-1,25850,13558", "suppress_blank": False, "length_penalty": 0.0},
    {"prompt": "names: apple, Émile", "sample_len": 12},
    {"prompt": "before " * 300, "task": "translate"},
]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_ways_of_searching(setting, way):
    texts = agree(setting, **way)
    assert len(set(texts)) > 1


@pytest.mark.parametrize("beam_size", [None, 5])
@pytest.mark.parametrize("detail", DETAILS, ids=lambda detail: " ".join(detail))
def test_prompts_filters_and_limits(setting, detail, beam_size):
    beam = {"beam_size": beam_size} if beam_size else {}
    agree(setting, **detail, **beam)


@pytest.mark.parametrize("pad_to", ["batch", "30s"])
def test_the_base_hears_what_is_said(pad_to):
    """Also in Whisper's window; the sound stops with the speech. Else all agree about noise."""
    with torch.no_grad():
        setting = base(pad_to)
    texts = agree(setting, beam_size=5)
    heard = [setting.vocabulary.decode(text) for text in texts]
    assert heard == ["apple bread teacher after dinner", "我们喜欢咖啡 because tired", "help"]
