"""Our search against ESPnet's own over the decoder without cache, utterance after utterance.

40 utterances of mini_cs's test set, spread over it, through the program of stage 12 and the shipped
base; both ways write the same lines, whatever the batch.
"""

import os
import subprocess
import sys

import pytest

from espnet_blora.bin import make_config
from espnet_blora.data import mini_cs
from espnet_blora.utils.keyed import read_keyed
from espnet_blora.whisper.vocabulary import Vocabulary
from tests.integration.conftest import EGS2, ROOT, TINY

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3000)]
CONF = EGS2 / "mini_cs" / "asr1" / "conf"


def start(*words) -> subprocess.Popen:
    """Start a Python program of ours or, through the launcher, of ESPnet's."""
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(program: subprocess.Popen) -> str:
    log, _ = program.communicate()
    assert program.returncode == 0, log[-6000:]
    return log


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """The unadapted base as stage 11 leaves it, and its config.yaml with the cache turned off."""
    folder = tmp_path_factory.mktemp("exp")
    tokens = folder / "tokens.txt"
    lines = "".join(f"{token}\n" for token in Vocabulary.of(51865).token_list())
    tokens.write_text(lines, encoding="utf-8")
    train = folder / "train.yaml"
    parts = [str(CONF / "train.yaml"), str(CONF / "adapter_none.yaml")]
    make_config.main(["--output", str(train), *parts, "--set", "encoder_conf.pad_to=batch"])
    finish(
        start(
            *("espnet_blora.bin.base_model", "--config", train, "--whisper", TINY),
            *("--token_list", tokens, "--output_dir", folder),
        )
    )
    config = (folder / "config.yaml").read_text(encoding="utf-8")
    assert config.count("\ndecoder_conf:\n") == 1
    plain = config.replace("\ndecoder_conf:\n", "\ndecoder_conf:\n    use_cache: false\n")
    (folder / "uncached.yaml").write_text(plain, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    mini_cs.build(folder, sets=["test_cs"])
    return folder / "test_cs"


def decode(experiment, data, output, config, keys, *more) -> subprocess.Popen:
    return start(
        *("espnet_blora.run", "--whisper", TINY, "-m", "espnet2.bin.asr_inference"),
        *("--output_dir", output, "--key_file", keys, "--config", CONF / "decode.yaml"),
        *("--data_path_and_name_and_type", f"{data / 'wav.scp'},speech,sound"),
        *("--asr_train_config", experiment / config),
        *("--asr_model_file", experiment / "base.pth", *more),
    )


def results(output):
    """Every file of results."""
    return {
        name: read_keyed(output / "1best_recog" / name)
        for name in ("text", "token", "token_int", "score")
    }


@pytest.mark.parametrize("beam", [1, 5])
def test_utterances_are_what_espnets_search_finds(experiment, data, tmp_path, beam):
    keys = tmp_path / "keys"
    keys.write_text("".join((data / "wav.scp").read_text().splitlines(keepends=True)[::5]))
    slow = tmp_path / "theirs"
    more = ("--batch_size", 1, "--beam_size", beam)
    slowly = decode(experiment, data, slow, "uncached.yaml", keys, *more)
    for size in (16, 7):
        output, more = tmp_path / f"ours{size}", ("--batch_size", size, "--beam_size", beam)
        log = finish(decode(experiment, data, output, "config.yaml", keys, *more))
        assert "ESPnet's own search" not in log
    assert "ESPnet's own search: decoder_conf.use_cache is false" in finish(slowly)

    theirs = results(slow)
    assert len(theirs["text"]) == 40
    for size in (16, 7):
        ours = results(tmp_path / f"ours{size}")
        ours_scores = ours.pop("score")
        assert ours == {name: theirs[name] for name in ours}
        for uid, value in ours_scores.items():
            pair = (float(v.removeprefix("tensor(")[:-1]) for v in (value, theirs["score"][uid]))
            assert next(pair) == pytest.approx(next(pair), abs=1e-3), uid
    assert len(set(theirs["text"].values())) > 30
