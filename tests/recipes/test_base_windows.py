"""Windows for training mini_cs's base: composed of features, they are those of a composed wave."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from whisper.model import TextDecoder

from espnet_blora.whisper.decoder import states
from espnet_blora.whisper.encoder import log_mel

RECIPE = Path(__file__).resolve().parents[2] / "egs2" / "mini_cs" / "asr1"
MELS, RATE = 80, 16000


def module_of(name, monkeypatch):
    spec = importlib.util.spec_from_file_location(name, RECIPE / "local" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def attention(monkeypatch):
    return module_of("base_attention", monkeypatch)


@pytest.fixture
def windows(attention, monkeypatch):
    return module_of("base_windows", monkeypatch)


def wave(seconds, level, seed):
    time = np.arange(int(seconds * RATE)) / RATE
    rng = np.random.default_rng(seed)
    tone = np.sin(2 * np.pi * rng.uniform(200, 900) * time)
    return (level * tone + 1e-3 * rng.standard_normal(len(time))).astype(np.float32)


def features_of(samples, pad_to="batch"):
    features, _ = log_mel(
        torch.from_numpy(samples)[None], torch.tensor([len(samples)]), MELS, pad_to
    )
    return features[0]  # (n_mels, T)


def test_padding_is_that_of_a_padded_wave(windows):
    samples = wave(2.0, 0.3, 0)
    padded = windows.Windows.padded(features_of(samples), windows.WINDOW)
    whole = features_of(samples, "30s")
    assert padded.shape == whole.shape == (MELS, 3000)
    edge = [*range(200), *range(202, 3000)]  # two frames reach over the end of the wave
    assert torch.allclose(padded[:, edge], whole[:, edge], atol=1e-5)
    silence = features_of(np.zeros(RATE, np.float32), "30s")
    assert torch.allclose(silence, torch.full_like(silence, windows.SILENCE), atol=1e-5)


def test_quiet_edges_are_cut_and_no_speech(windows):
    quiet = 1e-3 * np.random.default_rng(1).standard_normal(RATE).astype(np.float32)
    features = features_of(np.concatenate([quiet[:4800], wave(1.0, 0.3, 0), quiet[:3200]]))
    edges = windows.quiet_edges(features)
    assert edges == pytest.approx((30, 20), abs=3)  # frames of 10 ms
    rng, lengths = np.random.default_rng(0), set()
    for _ in range(40):
        lengths.add(windows.cut_edges(features, edges, rng).shape[1])
    assert min(lengths) == features.shape[1] - sum(edges) and max(lengths) == features.shape[1]
    assert len(lengths) > 8


def utterances(n=24):
    """What the windows need of a set: two voices, two languages, tokens that say whose they are."""
    features = [features_of(wave(1.0 + (i % 5) / 2, 0.1 + i / 50, i)) for i in range(n)]
    return SimpleNamespace(
        features=features,
        frames=torch.tensor([f.shape[1] for f in features]),
        languages=["en" if i % 2 else "zh" for i in range(n)],
        voices=["a" if i % 4 < 2 else "b" for i in range(n)],
        prompts=[[1 + i % 2] for i in range(n)],
        pieces=lambda rows: [[row] * (1 + row % 3) for row in rows],
    )


class Utterances(SimpleNamespace):
    def __len__(self):
        return len(self.features)

    def cut(self, row, rng):
        return self.features[row]


def test_joined_utterances_are_those_of_the_joined_wave(windows, monkeypatch):
    """Pauses of digital silence, seen away from the frames that reach over an edge."""
    loud, soft = wave(1.0, 0.5, 1), wave(1.0, 0.01, 2)
    data = Utterances(**vars(utterances()))
    data.features[:2] = [features_of(loud), features_of(soft)]
    data.frames[:2] = 100
    one = windows.Windows(data, MELS, seed=0, clips=2)
    monkeypatch.setattr(
        one, "_pause", lambda speech, frames, rng: torch.full((MELS, frames), -torch.inf)
    )
    window, places = one._speech([0, 1], np.random.default_rng(0))
    (first, after), (second, last) = places
    assert after - first == last - second == 100 and 5 <= second - after < 120
    gaps = [first, second - after, window.shape[1] - last]
    before, between, behind = (np.zeros(gap * 160, np.float32) for gap in gaps)
    whole = features_of(np.concatenate([before, loud, between, soft, behind]))
    inside = [*range(first + 5, after - 5), *range(second + 5, last - 5)]
    assert torch.allclose(window[:, inside], whole[:, inside], atol=2e-3)
    quiet = range(after + 3, second - 3)
    assert torch.allclose(window[:, quiet], whole[:, quiet], atol=1e-5)


def test_a_batch_holds_what_it_says(windows):
    data = Utterances(**vars(utterances()))
    one, rng = windows.Windows(data, MELS, seed=0, clips=4), np.random.default_rng(3)
    counts, whole = set(), set()
    for _ in range(30):
        batch = one.batch(9000, rng)
        features, frames = batch.stacked()
        assert features.shape == (len(batch), MELS, int(frames.max()))
        assert len(batch) == 1 or features.shape[0] * features.shape[2] <= 9000
        assert int(frames.max()) <= 3000 and bool(torch.isfinite(features).all())
        whole.add(bool((frames == 3000).all()))
        for prompt, text, spans, length in zip(
            batch.prompts, batch.texts, batch.spans, frames.tolist(), strict=True
        ):
            rows = [row for i, row in enumerate(text) if i == 0 or text[i - 1] != row]
            counts.add(len(spans))
            # joined utterances are of one voice in one language, which the prompt names
            assert len({(data.voices[row], data.languages[row]) for row in rows}) <= 1
            assert not rows or data.prompts[rows[0]] == prompt
            # every utterance lies where its span says, one behind the other
            assert sum(count for _, _, count in spans) == len(text)
            edges = [edge for first, last, _ in spans for edge in (first, last)]
            assert edges == sorted(edges) and (not edges or edges[-1] <= length)
    assert counts == set(range(9)) and whole == {True, False}


def test_windows_grow_with_the_number_of_utterances(windows):
    data = Utterances(**vars(utterances()))
    one, rng = windows.Windows(data, MELS, seed=0, clips=4), np.random.default_rng(3)
    one.most, one.whole = 2, 0.0
    for _ in range(20):
        batch = one.batch(9000, rng)
        assert max(len(spans) for spans in batch.spans) <= 2
        assert max(f.shape[1] for f in batch.features) <= 500 + 350 + 150


def test_the_next_token_is_looked_for_where_it_is_said(attention):
    """Two utterances of two tokens each, 100 frames with 50 before, and 40 frames later."""
    inside, spoken = attention.places([[(50, 150, 2), (190, 290, 2)], []], (2, 7, 200), prompt=3)
    assert spoken.tolist() == [[False, False, True, True, True, True, False], [False] * 7]
    slack, step = attention.SLACK, 25
    centres = [25 + step / 2, 25 + 3 * step / 2, 95 + step / 2, 95 + 3 * step / 2]
    for token, centre in zip(range(2, 6), centres, strict=True):
        found = torch.nonzero(inside[0, token]).flatten()
        half = step * (0.5 + attention.NEIGHBOURS) + slack
        assert abs(float(found.min()) - (centre - half)) <= 1
        assert abs(float(found.max()) - (centre + half)) <= 1


def test_guided_states_are_the_states(attention):
    """And attention that may fall anywhere misses nothing; attention elsewhere does."""
    torch.manual_seed(0)
    decoder = TextDecoder(51865, 20, 16, 2, 3)
    torch.nn.init.normal_(decoder.positional_embedding)
    tokens, memory = torch.randint(0, 50257, (2, 6)), torch.randn(2, 30, 16)
    lengths = torch.tensor([30, 20])
    spans = [[(0, 60, 3)], [(0, 40, 3)]]
    got, missed = attention.guided_states(decoder, tokens, memory, lengths, spans, 3)
    assert torch.allclose(got, states(decoder, tokens, memory, lengths), atol=1e-5)
    assert 0 < missed.item() < 14
    attention.SLACK = 100
    _, missed = attention.guided_states(decoder, tokens, memory, lengths, spans, 3)
    assert missed.item() == pytest.approx(0, abs=1e-6)


def test_noise_has_every_length_and_no_clipping(windows):
    rng = np.random.default_rng(0)
    for seconds in (0.5, 3.0, 30.0):
        clips = [windows.noise_wave(rng, seconds) for _ in range(12)]
        assert {len(clip) for clip in clips} == {int(seconds * RATE)}
        assert max(float(np.abs(clip).max()) for clip in clips) < 1.0
