"""What benchmarks/joining.py trains on: a speaker's utterances, joined as `run.sh --join` does."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from espnet_blora.data import audio, kaldi
from espnet_blora.data.unlabelled import Clips, find
from espnet_blora.utils.keyed import read_keyed

PAUSE = 4800  # samples between two utterances


@pytest.fixture(scope="module")
def joining():
    """The program, which is run from its own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
        yield importlib.import_module("joining")


@pytest.fixture(scope="module")
def sets(joining, tmp_path_factory):
    """Seven utterances of 6 s, of two speakers; and the map of what was joined of them."""
    folder = tmp_path_factory.mktemp("joining")
    rng = np.random.default_rng(0)
    speakers = {f"{who}-{n}": who for who, count in (("ann", 5), ("bob", 2)) for n in range(count)}
    for uid in speakers:
        audio.write(folder / f"{uid}.wav", 0.1 * rng.standard_normal(6 * audio.SAMPLE_RATE))
    source, target = folder / "train_x", folder / "train_x_join0.5"
    kaldi.write_data_dir(
        source,
        {uid: str(folder / f"{uid}.wav") for uid in speakers},
        {uid: f"said {uid[-1]}" for uid in speakers},
        speakers,
        dict.fromkeys(speakers, "en"),
    )
    return source, target, joining.record(source, target, folder / "recordings")


def test_windows_are_full_and_of_one_speaker(sets):
    """Four utterances and three pauses are 24.9 s; a fifth would go beyond 28 s."""
    _, target, parts = sets
    assert parts == {
        "ann-0-x4": [f"ann-{n}" for n in range(4)],
        "bob-0-x2": ["bob-0", "bob-1"],
    }
    assert read_keyed(target / "text") == {
        "ann-0-x4": "said 0 said 1 said 2 said 3",
        "ann-4": "said 4",
        "bob-0-x2": "said 0 said 1",
    }
    assert read_keyed(target / "utt2spk") == {"ann-0-x4": "ann", "ann-4": "ann", "bob-0-x2": "bob"}


def test_a_window_holds_its_utterances_and_between_them_their_noise(sets):
    source, target, _ = sets
    whole = Clips(find(target)[0])[f"{target}/ann-0-x4"]
    single = Clips(find(source)[0])
    at = 0
    for n in range(4):
        clip = single[f"{source}/ann-{n}"]
        np.testing.assert_allclose(whole[at : at + len(clip)], clip, atol=2 / 32768)
        at += len(clip)
        pause = whole[at : at + PAUSE]
        if n < 3:
            assert pause.std() == pytest.approx(clip[-800:].std(), rel=0.2)
        at += len(pause)
    assert at == len(whole)


def test_one_by_one_is_one_window_a_batch(joining):
    windows = joining.OneByOne(["a", "b"], [np.zeros((80, 9)), np.zeros((80, 4))], [], [], [], 0.1)
    assert windows.batches(8) == [[1], [0]]


def test_differences_have_students_interval(joining):
    """t of 2 degrees of freedom is 4.303; the standard error of 1, 2, 3 is 1 / sqrt 3."""
    assert joining.difference(np.array([1.0, 2.0, 3.0])) == "+2.00 [-0.48, +4.48]"
    assert joining.difference(np.array([-1.0])) == "-1.00"
