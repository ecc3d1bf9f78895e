"""What is summed while a Whisper hears audio: inputs by structure, positions of speech, blocks."""

import dataclasses

import pytest
import soundfile
import torch

from espnet_blora.adapters.moments import new_sums
from espnet_blora.adapters.targets import find_targets
from espnet_blora.data.unlabelled import Clips, find
from espnet_blora.decoding import moments
from espnet_blora.decoding.moments import MEMORY, inputs_of, listen
from espnet_blora.decoding.options import DecodingOptions
from espnet_blora.whisper.decoder import states
from espnet_blora.whisper.encoder import encode
from tests.decoding.small import LAYOUT, opened, utterances
from tests.whispers import ending, lively

TARGETS = ["query", "key", "value", "out", "mlp.0", "mlp.2"]
OPTIONS = DecodingOptions(
    language="en", beam_size=1, batch_size=3, max_tokens=12, drop_quiet=False,
    temperature_increment_on_fallback=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def small():
    return opened(ending(lively(n_text_ctx=64), LAYOUT.eot))


@pytest.fixture
def clips(tmp_path):
    """Four noises as a Kaldi data directory without text."""
    folder = tmp_path / "old"
    folder.mkdir()
    for name, wave in utterances()[0].items():
        soundfile.write(folder / f"{name}.wav", wave.numpy(), 16000, subtype="FLOAT")
    lines = [f"{name} {folder / name}.wav\n" for name in sorted(utterances()[0])]
    (folder / "wav.scp").write_text("".join(lines))
    return Clips(find(folder)[0])


def empty(recogniser):
    model = recogniser.as_trained()
    layers = inputs_of(find_targets(model, TARGETS, adapted=True))
    made = {"pad_to": recogniser.pad_to, "through": "base"}
    return new_sums(dict(model.named_parameters()), layers, made)


def heard(recogniser, clips, options=OPTIONS, sums=None, done=lambda sums: None):
    sums = sums or empty(recogniser)
    listen(recogniser, {"old": clips}, sums, options, done)
    return sums


def inputs_at(recogniser, wave, ids):
    """Every Linear's input for one utterance without any padding, (positions, d)."""
    model, seen = recogniser.as_trained(), {}
    hooks = [
        linear.register_forward_pre_hook(
            lambda _, given, name=name: seen.update({name: given[0][0].double()})
        )
        for name, linear in find_targets(model, TARGETS, adapted=True).items()
    ]
    memory, lengths = encode(recogniser.encoder, wave[None], torch.tensor([len(wave)]))
    states(recogniser.decoder, torch.tensor([ids]), memory, lengths)
    for hook in hooks:
        hook.remove()
    return seen


@torch.no_grad()
def test_linears_of_one_input_read_the_same(small):
    wave = utterances()[0]["d"]
    seen = inputs_at(small, wave, LAYOUT.prompt("en"))
    groups = {}
    for name, key in inputs_of(seen).items():
        groups.setdefault(key, []).append(name)
    # 2 layers a half: encoder 4 inputs each, decoder 6 each and the memory
    assert len(groups) == 2 * 4 + 2 * 6 + 1 and len(groups[MEMORY]) == 4
    for names in groups.values():
        assert all(torch.equal(seen[name], seen[names[0]]) for name in names)
    first = [names[0] for names in groups.values()]
    same_size = [(a, b) for a in first for b in first if a < b and seen[a].shape == seen[b].shape]
    assert not any(torch.equal(seen[a], seen[b]) for a, b in same_size)


@torch.no_grad()
def test_the_sums_are_those_of_each_utterance_alone(small, clips):
    sums = heard(small, clips)
    texts, expected, positions = {}, {}, {}
    listener = moments.Transcriber(small, OPTIONS)
    for transcript in listener.transcribe(clips):
        (segment,) = transcript.segments
        texts[transcript.name] = segment.tokens if segment.complete else ()
    assert sum(map(bool, texts.values())) >= 2, "too few texts end"
    for name, text in texts.items():
        if text:
            wave = torch.from_numpy(clips[name])
            seen = inputs_at(small, wave, [*LAYOUT.prompt("en"), *text])
            for linear, key in {v: k for k, v in sums.layers.items()}.items():
                x = seen[key]
                expected[linear] = expected.get(linear, 0) + x.T @ x
                positions[linear] = positions.get(linear, 0) + len(x)
    assert sums.positions == positions
    assert sums.left_out == sum(not text for text in texts.values())
    for key, total in sums.sums.items():
        gap = (total - expected[key]).norm() / expected[key].norm()
        assert float(gap) < 1e-5, key


def test_positions_of_a_window_s_padding_do_not_count(small, clips):
    windowed = dataclasses.replace(small, pad_to="30s")
    sums, plain = heard(windowed, clips), heard(small, clips)
    frames = [-(-len(clips[uid]) // 160) for uid in clips]
    assert sums.left_out == 0 and sums.positions[MEMORY] == sum(-(-n // 2) for n in frames) == 53
    with pytest.raises(ValueError, match="pad_to 'batch' and '30s'"):
        sums.merge(plain)


def test_an_interrupted_run_goes_on_with_the_same_bits(small, clips, monkeypatch):
    monkeypatch.setattr(moments, "BLOCK", 2)
    whole = heard(small, clips)

    class Interrupted(Exception):
        pass

    def stop(sums):
        raise Interrupted

    part = empty(small)
    with pytest.raises(Interrupted):
        heard(small, clips, sums=part, done=stop)
    assert len(part.heard) == 2
    heard(small, clips, sums=part)
    assert part.heard == whole.heard and part.positions == whole.positions
    assert all(torch.equal(part.sums[key], total) for key, total in whole.sums.items())


def test_a_text_that_does_not_end_is_left_out(small, clips):
    sums = heard(small, clips, dataclasses.replace(OPTIONS, max_tokens=1))
    assert sums.left_out == 4 and not sums.sums
