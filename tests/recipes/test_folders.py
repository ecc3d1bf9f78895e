"""Every recipe folder is whole: links, valid configurations, a run.sh that knows itself."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from espnet_blora.adapters import parse_config
from espnet_blora.bin import make_config
from espnet_blora.data.registry import get_corpus, parse_set_name

EGS2 = Path(__file__).resolve().parents[2] / "egs2"
RECIPES = sorted(p.parent for p in EGS2.glob("*/asr1/run.sh") if p.parent.parent.name != "TEMPLATE")
OURS = [p for p in RECIPES if "\ncorpus=" in (p / "run.sh").read_text()]
LINKS = "asr.sh db.sh path.sh pyscripts scripts steps utils".split()


def setting(recipe, name, file="run.sh"):
    """The value of a variable that a script sets at the start of a line."""
    for line in (recipe / file).read_text().splitlines():
        if line.startswith(f"{name}="):
            return line.partition("=")[2].split(" #")[0].strip('" ')
    return ""


def config(recipe, name):
    """The recipe's own configuration, else the shared one, as run.sh chooses it."""
    folders = [recipe / name for name in ("conf", *setting(recipe, "conf_behind").split())]
    found = (folder / name for folder in folders if (folder / name).is_file())
    return next(found, make_config.SHARED / name)


def ids(paths):
    paths = list(paths)
    return {"argvalues": paths, "ids": [p.parent.name for p in paths]}


def test_there_are_recipes():
    assert {p.parent.name for p in OURS} >= {"seame", "arzen", "fisher_cs", "custom"}


@pytest.mark.parametrize("recipe", **ids(RECIPES))
def test_links_lead_into_the_template_only(recipe):
    for name in LINKS:
        assert os.readlink(recipe / name) == f"../../TEMPLATE/asr1/{name}"
    links = [p for folder in ("", "conf", "local") for p in (recipe / folder).iterdir()]
    links = [p for p in links if p.is_symlink()]
    assert all("../../TEMPLATE/asr1/" in os.readlink(p) for p in links)
    assert {p.name for p in (recipe / "conf").glob("*.conf")} == {
        "pbs.conf",
        "queue.conf",
        "slurm.conf",
    }
    for name in ("run.sh", "local/data.sh"):
        assert os.access(recipe / name, os.X_OK), name


@pytest.mark.parametrize("adapter", ["none", "lora", "blora", "full"])
@pytest.mark.parametrize("recipe", **ids(RECIPES))
def test_configurations_are_valid(recipe, adapter, tmp_path):
    files = [str(config(recipe, name)) for name in ("train.yaml", f"adapter_{adapter}.yaml")]
    make_config.main([*files, "--output", str(tmp_path / "train.yaml")])
    conf = yaml.safe_load((tmp_path / "train.yaml").read_text())
    assert "include" not in conf
    assert conf["encoder"] == conf["decoder"] == "whisper"
    assert conf["save_strategy"] == ("all" if adapter == "full" else "required_grad_only")
    assert conf["use_adapter"] is (adapter in ("lora", "blora"))
    if conf["use_adapter"]:
        parse_config(adapter, conf["adapter_conf"])
    decode = make_config.load(config(recipe, "decode.yaml"))
    assert decode["ctc_weight"] == 0 and decode["beam_size"] >= 1


@pytest.mark.parametrize("recipe", **ids(RECIPES))
def test_a_configuration_of_its_own_says_more_than_the_shared_one(recipe):
    """run.sh takes the shared file by itself; that `include` is not ESPnet's word is said first."""
    for path in (recipe / "conf").glob("*.yaml"):
        text = path.read_text()
        own = yaml.safe_load(text)
        if own.pop("include", None):
            assert own, path
            assert "`include`" in text.splitlines()[0], path


@pytest.mark.parametrize("recipe", **ids(RECIPES))
def test_a_recipe_that_it_takes_files_from_is_named_in_its_run_sh(recipe):
    """`espnet-blora new` reads them there; a recipe may have another name in its folder."""
    others, local = (
        set(re.findall(r"\.\./\.\./(\w+)/asr1", "".join(p.read_text() for p in scripts)))
        for scripts in ([recipe / "run.sh"], (recipe / "local").glob("*.sh"))
    )
    assert local <= others
    assert "PWD" not in read(recipe, "local/data.sh")


@pytest.mark.parametrize("recipe", **ids(OURS))
def test_its_sets_are_those_of_its_corpus(recipe):
    corpus = get_corpus(setting(recipe, "corpus"))
    assert setting(recipe, "corpus_variable") == corpus.variable
    assert setting(recipe, "corpus", "local/data.sh") == corpus.name
    made = setting(recipe, "sets", "local/data.sh").split()
    assert made
    assert set(made) <= set(corpus.sets)
    combines = 'combine_data.sh "data/train' in read(recipe, "local/data.sh")
    combined = {"train"} if combines else set()
    named = {setting(recipe, name) for name in ("train_set", "valid_set")}
    named |= set(setting(recipe, "test_sets").split())
    assert named <= set(made) | combined
    for name in setting(recipe, "retention_sets").split():
        if name not in made:
            assert parse_set_name(name).set


@pytest.mark.parametrize("recipe", **ids(p for p in RECIPES if p.parent.name.startswith("mini_")))
def test_a_bed_trains_with_configurations_that_are_there(recipe):
    options = "--dry_run --adapter lora --stage 11 --stop_stage 11".split()
    done = subprocess.run([recipe / "run.sh", *options], capture_output=True, text=True, check=True)
    (line,) = (line for line in done.stdout.splitlines() if "bin.make_config" in line)
    files = [word for word in line.split() if word.endswith(".yaml") and "exp/" not in word]
    assert len(files) == 2 and all((recipe / file).is_file() for file in files), files
    assert f"train_{recipe.parent.name.removeprefix('mini_')} " in done.stdout


def read(recipe, name):
    return (recipe / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("recipe", **ids(OURS))
def test_its_readme_says_what_a_lab_must_know(recipe):
    corpus = get_corpus(setting(recipe, "corpus"))
    text = read(recipe, "README.md")
    for said in (corpus.variable, "check_corpus", "Licence", "--adapter blora", "--stop_stage 13"):
        assert said in text, said
    for name in setting(recipe, "retention_sets").split():
        assert name in text, name
    assert "RESULTS" in read(recipe, "RESULTS.md")


@pytest.mark.parametrize("recipe", **ids(OURS))
def test_help_needs_no_corpus(recipe):
    done = subprocess.run(
        [recipe / "run.sh", "--help"], cwd="/", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"${setting(recipe, 'corpus_variable')}" in done.stdout
    assert setting(recipe, "retention_sets") in done.stdout
