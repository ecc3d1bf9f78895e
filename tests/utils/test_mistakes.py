"""A user's mistake is one line; whatever else goes wrong keeps its traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from espnet_blora import run as blora_run
from espnet_blora.utils.mistakes import DEBUG, parse_scale, users_mistake

MESSAGE = "here: found 'x', allowed is a finite number >= 0 (1 decodes with the adapter as trained"


def mistake(index=0):
    return parse_scale("x", "here")


def accident(index=0):
    return int("x")


class Items(torch.utils.data.Dataset):
    """Every item calls `what`, in a worker process."""

    def __init__(self, what):
        self.what = what

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.what(index)


def in_a_worker(what):
    return lambda: next(iter(torch.utils.data.DataLoader(Items(what), num_workers=1)))


def raised(call):
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("place", [lambda what: what, in_a_worker], ids=["here", "worker"])
def test_only_errors_of_this_package_are_mistakes(place):
    message = users_mistake(raised(place(mistake)))
    assert message.startswith(MESSAGE) and message.endswith("0 with the base model)")
    assert users_mistake(raised(place(accident))) is None


def test_a_checkout_behind_a_link_is_this_package_too(tmp_path):
    (tmp_path / "espnet_blora").symlink_to(Path(blora_run.__file__).parent)
    code = (
        "from espnet_blora.utils import mistakes\n"
        "try: mistakes.parse_scale('x', 'here')\n"
        "except ValueError as error: print(mistakes.users_mistake(error))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.startswith(MESSAGE[:20]), done.stderr


def test_other_kinds_keep_their_traceback():
    assert users_mistake(RuntimeError("x")) is None
    assert users_mistake(raised(lambda: {}["x"])) is None
    assert users_mistake(raised(lambda: Path("/no/such/file").read_bytes())) is None


def test_notes_are_part_of_the_line():
    error = raised(mistake)
    error.add_note("while decoding the utterances a, b")
    assert users_mistake(error).endswith("(while decoding the utterances a, b)")


@pytest.fixture
def program(monkeypatch):
    """Let the launcher run `what` in the place of a program."""

    def use(what):
        monkeypatch.setattr(blora_run, "run_module", lambda *_: what())
        return ["-m", "espnet_blora.bin.score"]

    return use


def test_the_launcher_ends_in_one_line(program, capsys, monkeypatch):
    monkeypatch.delenv(DEBUG, raising=False)
    with pytest.raises(SystemExit) as caught:
        blora_run.main(program(mistake))
    assert caught.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"espnet_blora: error: {MESSAGE}") and DEBUG in lines[0]
    assert len(lines) == 1


def test_the_traceback_is_there_for_who_asks_and_for_the_unknown(program, monkeypatch):
    with pytest.raises(ValueError, match="invalid literal"):
        blora_run.main(program(accident))
    monkeypatch.setenv(DEBUG, "1")
    with pytest.raises(ValueError, match="here: found 'x'"):
        blora_run.main(program(mistake))
