"""Human speech (NIST SPHERE files) goes the whole way through ESPnet's stages 1-13 with blora."""

import shutil
from pathlib import Path

import pytest

from espnet_blora.data import kaldi
from espnet_blora.utils.keyed import read_keyed

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]


def test_real_recordings_pass_all_stages(checkout):
    recipe = checkout.recipe
    source = Path(__file__).parent / "mini_an4"
    for name in ("data.sh", "prepare.py"):
        shutil.copy2(source / name, recipe / "local" / name)
    (recipe / "local" / "data.sh").chmod(0o755)
    options = "--adapter blora --train_set train --valid_set dev --test_sets test --tag an4"
    settings = "--set max_epoch=1 --set batch_size=2 --set num_workers=0"
    kept = ("--retention_sets", "")
    done = checkout.run("./run.sh", *options.split(), *kept, *settings.split())
    assert done.returncode == 0, done.stdout[-5000:]

    for name, size in (("train", 3), ("dev", 2), ("test", 2)):
        found = kaldi.validate(recipe / "data" / name, {"en"}, check_audio=False)
        assert found.utterances == size
    experiment = recipe / "exp" / "asr_blora_an4"
    assert (experiment / "valid.acc.best.pth").is_file()
    reference = read_keyed(recipe / "dump" / "raw" / "test" / "text")
    assert reference["fcaw-cen8-fcaw-b"] == "eleven twenty seven fifty seven"
    decoded = experiment / "decode" / "test"
    assert set(read_keyed(decoded / "text")) == set(reference)
    for kind in ("wer", "cer"):
        result = (decoded / f"score_{kind}" / "result.txt").read_text()
        assert "Sum/Avg" in result or "not scored" in result
    assert (decoded / "score_blora" / "score.json").is_file()
    assert "decode/test|2|" in (experiment / "RESULTS.md").read_text()
