"""What holds for the three alike: exact records, places, sizes; and that sides are not confused."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_blora.data.prepare import prepare
from espnet_blora.data.registry import get_corpus
from espnet_blora.utils.keyed import read_keyed
from tests.data.layouts import arzen, fisher, miami, read

LAYOUTS = {"arzen": arzen, "fisher": fisher, "miami": miami}


@pytest.fixture(scope="module", params=LAYOUTS)
def laid_out(request, tmp_path_factory):
    root = tmp_path_factory.mktemp(request.param)
    return get_corpus(request.param), LAYOUTS[request.param].make(root)


def test_records_are_exactly_those_laid_out(laid_out):
    corpus, layout = laid_out
    records, ledger = read(corpus, layout)
    found = {name: {u.id: u.text for u in records[name]} for name in corpus.sets}
    assert found == layout.texts
    assert {
        name: {u.id: u.language for u in records[name]} for name in corpus.sets
    } == layout.languages
    assert ledger.counts() == dict(sorted(layout.skips.items()))
    assert all(len(ids) >= 1 for ids in layout.texts.values())


def test_times_lie_in_their_recordings_and_places_in_their_files(laid_out):
    corpus, layout = laid_out
    records, ledger = read(corpus, layout)
    for utterances in records.values():
        for u in utterances:
            info = soundfile.info(u.audio)
            assert 0 <= u.start < u.end <= info.duration
            assert u.channel is None or u.channel < info.channels
            file, line = u.where.rsplit(":", 1)
            held = Path(file).read_text(encoding="utf-8").split("\n")[int(line) - 1]
            words = u.text.replace(".", " ").replace(",", " ").split()
            assert u.id in held or words[0] in held
    assert all(":" in entry.where for entry in ledger.skips)


def test_inspection_names_published_sizes(laid_out):
    corpus, layout = laid_out
    items = corpus.inspect(corpus.find(layout.root), layout.options)
    for size in filter(lambda size: size.utterances, corpus.sets.values()):
        assert any(f"{size.utterances:,}" == item.expected for item in items)
    assert any(item.ok for item in items) or corpus.name == "fisher"
    assert any(item.ok is False for item in items)


def test_unknown_set_is_refused(laid_out, tmp_path):
    corpus, layout = laid_out
    with pytest.raises(ValueError, match=f"{corpus.name} .*evaluation.*{min(corpus.sets)}"):
        prepare(corpus, layout.root, ["evaluation"], tmp_path, tmp_path, layout.options)


@pytest.mark.parametrize("name", LAYOUTS)
def test_empty_folder_says_what_was_looked_for(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        get_corpus(name).find(tmp_path)


@pytest.mark.parametrize("name", LAYOUTS)
def test_missing_recording_is_prepares_to_judge(name, tmp_path):
    layout = LAYOUTS[name].make(tmp_path / "corpus")
    corpus = get_corpus(name)
    for path in (tmp_path / "corpus").rglob("*"):
        if path.suffix.lower() in (".wav", ".sph", ".mp3"):
            path.unlink()
    with pytest.raises(ValueError, match="no audio"):
        prepare(corpus, layout.root, list(corpus.sets)[:1], tmp_path / "data", tmp_path / "audio")


def test_fisher_takes_the_right_side(tmp_path):
    """A tone of its own a channel: 440 Hz on side A (0 in the transcripts), 1000 Hz on side B."""
    layout = fisher.make(tmp_path / "corpus", 12, sound="tone")
    corpus = get_corpus("fisher")
    prepare(corpus, layout.root, ["cs_train"], tmp_path / "data", tmp_path / "audio")
    heard = set()
    for id, place in read_keyed(tmp_path / "data/cs_train/wav.scp").items():
        wave, rate = soundfile.read(place)
        assert rate == 16000
        _, channel, start, end = layout.times[id]
        assert len(wave) == pytest.approx(16000 * (end - start), abs=2)
        spectrum = np.abs(np.fft.rfft(wave))
        loudest = np.argmax(spectrum) * rate / len(wave)
        assert loudest == pytest.approx(fisher.TONES[channel], abs=5)
        heard.add(channel)
    assert heard == {0, 1}
