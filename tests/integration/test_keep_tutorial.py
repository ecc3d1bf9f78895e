"""The tutorial "keep what it knows": its commands run as they stand, on a small corpus."""

import re

import pytest

from espnet_blora.utils.keyed import read_keyed
from tests.data.layouts import custom, speech
from tests.integration.conftest import ROOT, TINY, Checkout

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

OLD = ("please open the red door", "the train leaves at nine", "we buy two apples and a book")


def commands():
    """Lines of the page's blocks: those of the first, and the repair."""
    page = (ROOT / "docs" / "keep.md").read_text(encoding="utf-8")
    first, repair = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return first.splitlines(), repair.splitlines()


def test_the_commands_of_the_page(tmp_path):
    first, repair = commands()
    assert len(first) <= 5 and len(repair) == 1

    # what a reader has: recordings with texts, and a folder of old audio without
    layout = custom.make(tmp_path / "my_speech")
    for number, text in enumerate(OLD * 2):
        wave = speech.say(text, "en", voice=speech.VOICES[number])
        speech.write(tmp_path / "old" / f"{number}.flac", wave)
    checkout = Checkout(tmp_path / "checkout", "custom")
    script = checkout.recipe / "run.sh"
    script.write_text(script.read_text().replace("whisper=large-v3-turbo", f"whisper={TINY}"))
    conf = checkout.recipe / "conf" / "train.yaml"
    short = "batch_size: 4\nnum_workers: 0\naccum_grad: 1\n"
    conf.write_text(conf.read_text().replace("max_epoch: 10", "max_epoch: 1") + short)
    (talk,) = list(layout.root.glob("clips/*000.wav"))

    # the page's lines in one shell, on a model that is small and is trained for one epoch
    lines = "\n".join([*first, *repair])
    for theirs, ours in {
        "/path/to/my_speech": str(layout.root),
        "/path/to/old": str(tmp_path / "old"),
        "talk.wav": str(talk),
        "./run.sh": "./run.sh --nj 1 --inference_nj 1 --ngpu 0 --max_lost 1",
        "--adapter lora --": "--adapter lora_keep --",
    }.items():
        assert theirs in lines, theirs
        lines = lines.replace(theirs, ours)
    done = checkout.run("bash", "-e", "-c", f"cd ../../..\n{lines}")
    assert done.returncode == 0, done.stdout[-6000:]

    # what each line promises
    exp = tmp_path / "checkout" / "egs2" / "my_corpus" / "asr1" / "exp"
    (moments,) = exp.glob("keep_tiny_mini_cs/*_old.moments")
    log = (exp / "asr_lora_keep" / "train.log").read_text()
    assert f"from {moments.relative_to(exp.parent)}: " in log and "s of audio" in log
    page = (exp / "retention.md").read_text()
    assert "**lora_keep**: errors on the new domain" in page
    assert "Forgetting was not measured" in page
    assert (exp.parent / f"{talk.stem}.txt").is_file()
    repaired = exp / "asr_lora_keep" / "decode_repair0.2" / "test" / "text"
    assert read_keyed(repaired).keys() == read_keyed(exp.parent / "dump/raw/test/text").keys()
    assert (exp / "asr_lora_keep" / "repaired_mu0.2.pth").is_file()
