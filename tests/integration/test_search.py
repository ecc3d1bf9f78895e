"""Our search against ESPnet's own over the decoder without cache, utterance after utterance.

All 200 utterances of mini_cs's test set through the program of stage 12 and the shipped base; both
ways write the same lines, whatever the batch.
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
    assert len(read_keyed(folder / "test_cs" / "wav.scp")) == 200
    return folder / "test_cs"


def decode(experiment, data, output, config, keys, *more) -> subprocess.Popen:
    return start(
        *("espnet_blora.run", "--whisper", TINY, "-m", "espnet2.bin.asr_inference"),
        *("--output_dir", output, "--key_file", keys, "--config", CONF / "decode.yaml"),
        *("--data_path_and_name_and_type", f"{data / 'wav.scp'},speech,sound"),
        *("--asr_train_config", experiment / config),
        *("--asr_model_file", experiment / "base.pth", *more),
    )


@pytest.mark.parametrize("beam", [1, 5])
def test_200_utterances_are_what_espnets_search_finds(experiment, data, tmp_path, beam):
    lines = (data / "wav.scp").read_text().splitlines(keepends=True)
    halves = []
    for number in range(2):  # the slow way, on two cores
        keys = tmp_path / f"keys.{number}"
        keys.write_text("".join(lines[number::2]))
        more = ("--batch_size", 1, "--beam_size", beam)
        halves.append(
            decode(experiment, data, tmp_path / f"theirs{number}", "uncached.yaml", keys, *more)
        )
    for half in halves:
        assert "ESPnet's own search: decoder_conf.use_cache is false" in finish(half)
    found = {}
    for size in (16, 7):
        keys = tmp_path / "keys"
        keys.write_text("".join(lines))
        output = tmp_path / f"ours{size}"
        log = finish(
            decode(
                experiment, data, output, "config.yaml", keys,
                "--batch_size", size, "--beam_size", beam,
            )
        )  # fmt: skip
        assert "ESPnet's own search" not in log
        found[size] = {
            name: read_keyed(output / "1best_recog" / name)
            for name in ("text", "token", "token_int", "score")
        }
    for name in ("text", "token", "token_int", "score"):
        wanted = {}
        for number in range(2):
            wanted |= read_keyed(tmp_path / f"theirs{number}" / "1best_recog" / name)
        assert len(wanted) == 200
        for size in found:
            if name != "score":
                assert found[size][name] == wanted
                continue
            for uid, value in found[size][name].items():
                one, other = (float(v.removeprefix("tensor(")[:-1]) for v in (value, wanted[uid]))
                assert one == pytest.approx(other, abs=1e-3), uid
    assert len(set(found[16]["text"].values())) > 150
