"""run.sh with old audio: moments, repairs and who trains with them; a dummy asr.sh."""

import shlex

import yaml

from tests.recipes.small import run, scored


def test_a_repair_is_made_before_decoding_and_decoded_in_the_adapters_place(recipe):
    noted = (
        'case "$*" in *bin.moments*|*bin.repair*|*bin.base_model*)\n'
        'printf "%q " "$@" >>made; echo >>made; exit ;; esac'
    )
    real = (recipe / "theirs" / "python3").read_text()
    (recipe / "theirs" / "python3").write_text(
        real.replace("#!/bin/bash\n", f"#!/bin/bash\n{noted}\n")
    )
    options = ["--adapter", "lora", "--repair", ".20", "--keep", "old_en old_zh"]
    (recipe / "exp" / "asr_lora").mkdir(parents=True)
    (recipe / "exp" / "asr_lora" / "config.yaml").touch()
    found = run(recipe, *options, "--stage", "12")
    assert [call["--inference_asr_model"] for call in found] == ["repaired_mu0.2.pth"]
    assert found[0]["--inference_tag"] == scored(recipe)["--inference_tag"] == "decode_repair0.2"
    base, old, new, last = [
        shlex.split(line)[1:] for line in (recipe / "made").read_text().splitlines()
    ]
    folder = "exp/keep_tiny_mini_cs"
    assert base[0] == "espnet_blora.bin.base_model" and base[-1] == folder
    assert (
        old[1:3] == ["data/old_en", "data/old_zh"] and old[-1] == f"{folder}/old_en+old_zh.moments"
    )
    assert new[1] == "dump/raw/train_cs" and "--adapted" in new
    assert last[0] == "espnet_blora.bin.repair" and last[-1] == "0.2"
    assert last[last.index("--keep") + 1] == old[-1] and last[last.index("--new") + 1] == new[-1]
    for name in ("calls", "made"):
        (recipe / name).unlink()
    run(recipe, "--adapter", "lora_keep", "--keep", "old_en old_zh", "--stage", "10")
    again = [shlex.split(line)[1:] for line in (recipe / "made").read_text().splitlines()]
    assert again[0][-1] == folder and again[1] == old
    conf = yaml.safe_load((recipe / "exp/asr_lora_keep/train.yaml").read_text())
    assert conf["adapter_conf"]["keep_file"] == old[-1]
    for name in ("calls", "made"):
        (recipe / name).unlink()
    (recipe / "my_old").mkdir()
    run(recipe, "--adapter", "lora_keep", "--keep", "old_en ./my_old", "--stage", "11")
    _, paths = [shlex.split(line)[1:] for line in (recipe / "made").read_text().splitlines()]
    assert paths[1:3] == ["data/old_en", "./my_old"]
    assert paths[-1] == f"{folder}/old_en+._my_old.moments"
    for name in ("calls", "made"):
        (recipe / name).unlink()
    for name, code in (("train_cs", "zh"), ("ret_en", "en")):
        (recipe / "data" / name).mkdir(parents=True, exist_ok=True)
        (recipe / "data" / name / "utt2lang").write_text(f"a {code}\nb {code}\nc rw\n")
    options = ["--adapter", "lora_keep", "--new_languages", "rw", "--stage", "11"]
    run(recipe, *options, "--keep", "synthetic")
    _, paths = [shlex.split(line)[1:] for line in (recipe / "made").read_text().splitlines()]
    assert paths[1:3] == ["--speak", "en zh"] and paths[-1] == f"{folder}/synthetic.moments"
    for table in recipe.glob("data/*/utt2lang"):
        table.unlink()
    (recipe / "made").unlink()
    run(recipe, *options, "--keep", "synthetic")  # moments says that no language is named
    assert "--speak ''" in (recipe / "made").read_text()
    (recipe / "calls").unlink()
    trained = run(recipe, "--adapter", "lora", "--stage", "12")
    assert trained[0]["--inference_asr_model"] == "valid.acc.best.pth"


def test_training_takes_moments_that_are_there_without_keep(recipe):
    options = ["--adapter", "lora_keep", "--stage", "11", "--stop_stage", "11"]
    (recipe / "mine.moments").touch()
    run(recipe, *options, "--set", "adapter_conf.keep_file=mine.moments")
    (recipe / "exp" / "keep.moments").touch()
    run(recipe, *options)
    (recipe / "exp" / "keep.moments").unlink()
    assert "exp/keep.moments" in run(recipe, *options, code=2)
