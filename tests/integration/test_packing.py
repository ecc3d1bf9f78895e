"""A packed model of mini_cs opens again where its recipe and its base are gone."""

import os
import shutil
import subprocess
import zipfile

import numpy as np
import pytest
import yaml

from espnet_blora import plugin
from espnet_blora.decoding import open_experiment
from espnet_blora.plugin.packing import check_packed
from espnet_blora.plugin.settings import WHISPER
from espnet_blora.whisper.checkpoint import save_whisper
from tests.integration.conftest import ROOT, Checkout
from tests.plugin.tiny import BLORA, Experiment, launcher
from tests.whispers import lively

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
OPTIONS = {"beam_size": 1, "maxlenratio": -8}
BASE = "base/lively.safetensors"


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The archive that stage 14 writes of one epoch, and what the experiment itself says."""
    top = tmp_path_factory.mktemp("packing")
    checkout = Checkout(top / "checkout")
    folder = checkout.recipe / "exp" / "asr_blora"
    made = Experiment(top)
    made.whisper = checkout.recipe / BASE  # says something of any noise
    save_whisper(lively(), made.whisper)
    shutil.copytree(made.train_here("asr_blora", max_epoch=1, **BLORA), folder, symlinks=True)
    conf = yaml.load((folder / "config.yaml").read_text(), Loader=yaml.CSafeLoader)
    for half in ("encoder_conf", "decoder_conf"):  # as a recipe names it
        conf[half]["whisper_model"] = BASE
    text = yaml.dump(conf, Dumper=yaml.CSafeDumper, allow_unicode=True, sort_keys=False)
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    (folder / "RESULTS.md").write_text("# RESULTS\n")
    (folder / "images").mkdir(exist_ok=True)
    options = "--adapter blora --stage 14 --stop_stage 14 --skip_packing false --nj 1 --ngpu 0"
    done = checkout.run("./run.sh", *options.split())
    assert done.returncode == 0, done.stdout[-3000:]

    wave = 0.1 * np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    wanted = texts(wave, folder / "config.yaml", folder / "valid.acc.best.pth")
    assert all(len(text) > 8 for text in wanted) and wanted[0] != wanted[1], wanted
    os.environ.pop(WHISPER, None)  # of a user who never saw the recipe
    (archive,) = folder.glob("*.zip")
    shutil.move(archive, top / "model.zip")
    shutil.rmtree(top / "checkout")
    return top / "model.zip", wave, wanted


def texts(wave, config, model):
    from espnet2.bin.asr_inference import Speech2Text

    plugin.register()
    opened = Speech2Text(config, model, **OPTIONS)
    return [opened(wave, language=code)[0][0] for code in ("en", "zh")]


def test_what_is_in_it(packed):
    with zipfile.ZipFile(packed[0]) as archive:
        names = archive.namelist()
        readme = archive.read("README.md").decode()
    assert {"meta.yaml", "exp/asr_blora/config.yaml", "exp/asr_blora/1epoch.pth"} <= set(names)
    assert "exp/asr_blora/lively.safetensors" in names and len(set(names)) == len(names)
    assert "exp/asr_blora/lively.safetensors" in readme and "from_pretrained" in readme


def test_by_from_pretrained(packed, tmp_path, monkeypatch):
    from espnet2.bin.asr_inference import Speech2Text

    archive, wave, wanted = packed
    monkeypatch.setenv("HOME", str(tmp_path))  # espnet_model_zoo's folder
    monkeypatch.chdir(tmp_path)
    opened = Speech2Text.from_pretrained(str(archive), **OPTIONS)
    assert [opened(wave, language=code)[0][0] for code in ("en", "zh")] == wanted


def test_by_the_downloader_of_espnet_model_zoo(packed, tmp_path, monkeypatch):
    from espnet2.bin.asr_inference import Speech2Text
    from espnet_model_zoo.downloader import ModelDownloader

    archive, wave, wanted = packed
    monkeypatch.chdir(tmp_path)
    found = ModelDownloader(tmp_path / "zoo").download_and_unpack(str(archive))
    assert texts(wave, found["asr_train_config"], found["asr_model_file"]) == wanted
    opened = Speech2Text(**found, **OPTIONS)
    assert opened(wave, language="en")[0][0] == wanted[0]


def test_by_espnets_own_program(packed, tmp_path):
    import soundfile

    archive, wave, wanted = packed
    soundfile.write(tmp_path / "u.wav", wave, 16000, subtype="FLOAT")
    (tmp_path / "wav.scp").write_text(f"u1 {tmp_path / 'u.wav'}\n")
    (tmp_path / "utt2lang").write_text("u1 zh\n")
    command = [
        *launcher(), "-m", "espnet2.bin.asr_inference", "--model_tag", str(archive),
        "--data_path_and_name_and_type", f"{tmp_path / 'wav.scp'},speech,sound",
        "--output_dir", str(tmp_path / "out"), "--ctc_weight", "0.0", "--beam_size", "1",
        "--maxlenratio", "-8",
    ]  # fmt: skip
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = (tmp_path / "out" / "1best_recog" / "text").read_text(encoding="utf-8")
    assert said == f"u1 {wanted[1]}\n"


def test_unpacked_it_is_an_experiment(packed, tmp_path):
    archive, _, _ = packed
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path)
    opened = open_experiment(tmp_path / "exp" / "asr_blora")
    assert opened.dtype.is_floating_point
    with pytest.raises(ValueError, match=r"model\.zip is a packed model: unpack it"):
        open_experiment(archive)


def test_a_damaged_archive_is_refused(packed, tmp_path):
    raw = bytearray(packed[0].read_bytes())
    raw[len(raw) // 2] ^= 4
    (tmp_path / "model.zip").write_bytes(raw)
    with pytest.raises(ValueError, match=r"model\.zip: damaged at exp/.*; copy it again"):
        check_packed(tmp_path / "model.zip")
    (tmp_path / "model.zip").write_bytes(raw[:5000])
    with pytest.raises(ValueError, match=r"model\.zip: damaged at its end"):
        check_packed(tmp_path / "model.zip")
