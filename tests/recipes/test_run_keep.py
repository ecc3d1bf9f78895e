"""run.sh with old audio: moments, repairs and who trains with them; a dummy asr.sh."""

import shlex

import yaml

from tests.recipes.small import run, scored


def watch(recipe, noted):
    """Put lines of shell before what the recipe's python3 does."""
    python = recipe / "theirs" / "python3"
    python.write_text(python.read_text().replace("#!/bin/bash\n", f"#!/bin/bash\n{noted}\n"))


def test_a_repair_is_made_before_decoding_and_decoded_in_the_adapters_place(recipe):
    noted = (
        'case "$*" in *bin.moments*|*bin.repair*|*bin.base_model*)\n'
        'printf "%q " "$@" >>made; echo >>made; exit ;; esac'
    )
    watch(recipe, noted)
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


def test_what_the_base_says_of_old_audio_is_written_once_and_named_to_the_training(recipe):
    noted = (
        'case "$*" in *bin.base_model*) exit ;;'
        ' *bin.pseudo_label*|*bin.moments*) echo "$@" >>made; exit ;; esac'
    )
    watch(recipe, noted)
    options = ["--adapter", "lora", "--keep", "old_en ./old", "--stage", "11", "--stop_stage", "11"]
    (recipe / "old").mkdir()
    run(recipe, *options, "--set", "retain.weight=8", "--tag", "said")
    made = (recipe / "made").read_text().split()
    said = "exp/keep_tiny_mini_cs/old_en+._old.said"
    assert made[1] == "espnet_blora.bin.pseudo_label" and made[-1] == said
    assert made[2:4] == ["data/old_en", "./old"]
    conf = yaml.safe_load((recipe / "exp/asr_lora_said/train.yaml").read_text())
    assert conf["retain"] == {"weight": 8, "data": said}
    # It is there: no second time. Data of one's own, or no term: not at all.
    (recipe / said).mkdir(parents=True)
    (recipe / said / "wav.scp").touch()
    (recipe / "made").unlink()
    run(recipe, *options, "--set", "retain.weight=8", "--tag", "said")
    run(recipe, *options, "--set", "retain.data=data/mine", "--tag", "mine")
    conf = yaml.safe_load((recipe / "exp/asr_lora_mine/train.yaml").read_text())
    assert conf["retain"] == {"data": "data/mine"}
    run(recipe, *options)
    assert not (recipe / "made").exists()
    assert "retain" not in yaml.safe_load((recipe / "exp/asr_lora/train.yaml").read_text())
    # A configuration may have the term, and --set take it away.
    with (recipe / "conf" / "train.yaml").open("a") as file:
        file.write("retain: {weight: 2}\n")
    run(recipe, *options, "--set", "retain=null", "--tag", "none")
    assert not (recipe / "made").exists()
    run(recipe, *options, "--tag", "conf", "--set", "seed=1")
    assert not (recipe / "made").exists()
    conf = yaml.safe_load((recipe / "exp/asr_lora_conf/train.yaml").read_text())
    assert conf["retain"] == {"weight": 2, "data": said}
    synthetic = ["--adapter", "lora", "--keep", "synthetic", "--stage", "11", "--tag", "spoken"]
    assert "--keep synthetic" in run(recipe, *synthetic, code=2)


def test_who_names_old_audio_and_no_adapter_trains_what_keeps_it(recipe):
    noted = 'case "$*" in *bin.base_model*|*bin.moments*) exit ;; esac'
    watch(recipe, noted)
    run(recipe, "--stage", "11", "--stop_stage", "11")
    run(recipe, "--stage", "11", "--stop_stage", "11", "--keep", "old_en")
    for adapter in ("blora", "lora_keep"):
        conf = yaml.safe_load((recipe / f"exp/asr_{adapter}/train.yaml").read_text())
        assert conf["adapter"] == adapter
