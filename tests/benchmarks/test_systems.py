"""What benchmarks/decode.py runs of ours does run, and its clock sees each part."""

import numpy as np
import pytest

from benchmarks.peers import clock
from benchmarks.peers.systems import Opening, Ours, Task, Utterance
from espnet_blora.whisper.vocabulary import Vocabulary
from tests.whispers import whisper_file

LAYOUT = Vocabulary.of(51865)


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    path = str(whisper_file(tmp_path_factory.mktemp("systems") / "whisper.safetensors"))
    return Ours(Opening("ours", path, "", 80, LAYOUT.eot, "batch", "cpu", "float32", 1))


@pytest.fixture(scope="module")
def speech():
    draw = np.random.default_rng(0)
    return {
        str(n): Utterance(
            draw.standard_normal(16000 * n).astype(np.float32), "en", LAYOUT.prompt("en")
        )
        for n in (1, 2)
    }


@pytest.mark.parametrize("beam", [1, 3])
def test_ours_decodes_as_the_task_says(ours, speech, beam):
    fixed = ours.decode(speech, Task(beam, 2, 6, fixed=True))
    assert [len(ids) for ids in fixed.values()] == [6, 6]
    most = ours.decode(speech, Task(beam, 2, 6))
    assert most.keys() == speech.keys() and all(len(ids) <= 6 for ids in most.values())
    by_ratio = ours.decode(speech, Task(beam, 2, 64, ratio=0.04))  # 50 and 100 positions
    assert len(by_ratio["1"]) <= 2 and len(by_ratio["2"]) <= 4


def test_every_part_is_timed(ours, speech):
    found = clock.profile(ours.recogniser, lambda: ours.decode(speech, Task(3, 2, 6, fixed=True)))
    assert found["wall"] > 0 and min(found["parts"].values()) > 0, found
