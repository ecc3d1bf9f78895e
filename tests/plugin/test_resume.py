"""Guards of the experiment folder: changed configurations and second runs."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from espnet_blora.plugin import resume

BASE = {
    "max_epoch": 3,
    "ngpu": 0,
    "lsm_weight": 0.1,
    "optim_conf": {"lr": 0.001, "betas": [0.9, 0.98]},
    "adapter_conf": {"rank": 8},
    "token_list": [f"t{i}" for i in range(300)],
    "dist_rank": None,
    "wandb_name": None,
}


def folder(tmp_path: Path, checkpoint: bool = True) -> Path:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(BASE))
    if checkpoint:
        (tmp_path / "checkpoint.pth").write_bytes(b"x")
    return tmp_path


def test_the_same_configuration_resumes(tmp_path):
    with resume.stored_config(folder(tmp_path), True):
        # As in args: tuples for lists; harmless keys differ.
        now = {**BASE, "optim_conf": {"lr": 0.001, "betas": (0.9, 0.98)}, "max_epoch": 9}
        resume.refuse_changed_config({**now, "dist_rank": 1, "ngpu": 1}, tmp_path)


def test_a_changed_configuration_is_refused_key_by_key(tmp_path):
    before = folder(tmp_path).joinpath("config.yaml").read_bytes()
    now = {**BASE, "lsm_weight": 0.0, "adapter_conf": {"rank": 16, "beta": 0.5}}
    with resume.stored_config(tmp_path, True), pytest.raises(ValueError, match="differ") as caught:
        resume.refuse_changed_config(now, tmp_path)
    text = str(caught.value)
    assert "3 keys differ" in text and "Remedy" in text and "--asr_exp" in text
    assert "lsm_weight: 0.1 -> 0.0" in text
    assert "adapter_conf.rank: 8 -> 16" in text
    assert "adapter_conf.beta: (absent) -> 0.5" in text
    assert tmp_path.joinpath("config.yaml").read_bytes() == before


def test_a_long_list_is_shown_short():
    other = {**BASE, "token_list": BASE["token_list"][:-1]}
    (line,) = resume.differences(BASE, other)
    assert line.startswith("token_list: ['t0'") and "(300 entries)" in line and len(line) < 200


@pytest.mark.parametrize(("wants", "checkpoint"), [(False, True), (True, False)])
def test_nothing_to_resume_means_nothing_to_compare(tmp_path, wants, checkpoint):
    with resume.stored_config(folder(tmp_path, checkpoint), wants):
        resume.refuse_changed_config({**BASE, "lsm_weight": 9}, tmp_path)


def test_the_stored_config_is_forgotten_afterwards(tmp_path):
    with resume.stored_config(folder(tmp_path), True):
        pass
    resume.refuse_changed_config({"anything": 1}, tmp_path)


@pytest.mark.parametrize("text", ["a: [1, 2", "- 1\n- 2\n"])
def test_a_damaged_config_is_named(tmp_path, text):
    folder(tmp_path)
    (tmp_path / "config.yaml").write_text(text)
    guard = resume.stored_config(tmp_path, True)
    with pytest.raises(ValueError, match=r"config\.yaml.*Remedy"):
        guard.__enter__()


def test_a_second_run_in_the_same_folder_is_refused(tmp_path):
    exp = tmp_path / "new" / "exp"
    code = f"""
import sys
from pathlib import Path
from espnet_blora.plugin.resume import only_run
for _ in sys.stdin:  # a try for every line
    try:
        with only_run(Path({str(exp)!r})):
            print("entered", flush=True)
    except ValueError as error:
        print(str(error).replace(chr(10), " "), flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:

        def tries():
            other.stdin.write("\n")
            other.stdin.flush()
            return other.stdout.readline().strip()

        with resume.only_run(exp):
            second = tries()
        third = tries()
        other.stdin.close()
    assert "in use by another run (host" in second and "--asr_exp" in second
    assert (third, other.returncode) == ("entered", 0)


@pytest.mark.parametrize("cut", [0, 40, -30, -1])
def test_a_config_cut_short_while_being_rewritten_is_put_back(tmp_path, cut):
    path = folder(tmp_path) / "config.yaml"
    before = path.read_bytes()

    def rewrite():
        with resume.kept_config(tmp_path):
            path.write_bytes(before[:cut])
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        rewrite()
    assert path.read_bytes() == before
    assert not (tmp_path / resume.PREVIOUS).exists()

    # The same for a job that was killed: the next start finds copy and stump.
    (tmp_path / resume.PREVIOUS).write_bytes(before)
    path.write_bytes(before[:cut])
    with resume.stored_config(tmp_path, True), resume.kept_config(tmp_path):
        resume.refuse_changed_config(BASE, tmp_path)
        assert path.read_bytes() == before
        path.write_text(yaml.safe_dump({**BASE, "max_epoch": 9}))
    assert yaml.safe_load(path.read_text())["max_epoch"] == 9
    assert not (tmp_path / resume.PREVIOUS).exists()


def test_a_whisper_file_that_has_moved_is_no_change(tmp_path):
    here = tmp_path / "base.safetensors"
    here.write_bytes(b"x")
    old = {"encoder_conf": {"whisper_model": "/gone/base.safetensors"}}
    new = {"encoder_conf": {"whisper_model": str(here)}}
    assert resume.differences(old, new) == []
    assert len(resume.differences(new, old)) == 1
    small = {"encoder_conf": {"whisper_model": "small"}}
    assert len(resume.differences(small, new)) == 1


def test_activation_checkpointing_may_be_switched_on_between_two_runs():
    plain = {"encoder_conf": {"pad_to": "30s"}, "decoder_conf": {}}
    less = {"encoder_conf": {"pad_to": "30s", "activation_checkpointing": True}, "decoder_conf": {}}
    assert resume.differences(plain, less) == resume.differences(less, plain) == []
    assert resume.differences(plain, {**less, "decoder_conf": {"use_cache": False}}) != []
