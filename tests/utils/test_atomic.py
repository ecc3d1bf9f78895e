"""Files that appear whole or not at all: one promise for every writer."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from espnet_blora.utils import atomic


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_write_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "file"  # the folder is made
    atomic.write(path, "första\n")
    atomic.write(path, b"zweite")
    assert path.read_bytes() == b"zweite"
    assert names(path.parent) == ["file"]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_umask_is_honoured(tmp_path, umask):
    before = os.umask(umask)
    try:
        atomic.write(tmp_path / "file", "x")
        with atomic.new_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~umask
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~umask


@pytest.mark.parametrize("opened", [atomic.writing, atomic.replacing])
def test_an_error_in_the_block_keeps_the_old_file(tmp_path, opened):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyError), opened(path):
        raise KeyError("x")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_content_is_on_the_disk_before_the_name_changes(tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (steps.append("replace"), replace(a, b)))
    atomic.write(tmp_path / "file", "x")
    assert steps == ["fsync", "replace", "fsync"]  # the file, its name, the folder's entries
    steps.clear()
    atomic.write(tmp_path / "file", "x", sync=False)
    assert steps == ["replace"]


def test_a_link_is_written_through(tmp_path):
    atomic.write(tmp_path / "1epoch.pth", "old")
    atomic.link(tmp_path / "latest.pth", "1epoch.pth")
    atomic.write(tmp_path / "latest.pth", "new")
    assert (tmp_path / "1epoch.pth").read_text() == "new"
    assert os.readlink(tmp_path / "latest.pth") == "1epoch.pth"
    atomic.link(tmp_path / "latest.pth", "2epoch.pth")
    assert os.readlink(tmp_path / "latest.pth") == "2epoch.pth"


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    def fail_halfway():
        with atomic.new_folder(tmp_path / "f") as part:
            (part / "a").write_text("x")
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        fail_halfway()
    assert names(tmp_path) == []
    with atomic.new_folder(tmp_path / "f") as part:
        (part / "a").write_text("x")
    assert names(tmp_path) == ["f"] and names(tmp_path / "f") == ["a"]


@pytest.mark.parametrize("writer", ["write", "torch", "safetensors"])
def test_a_full_disk_is_one_message_of_a_folder_too(tmp_path, writer):
    code = f"""
import os, pathlib, resource, signal, torch
from safetensors.torch import save_file
from espnet_blora.utils import atomic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
x = {{"x": torch.zeros(1_000_000)}}
try:
    with atomic.new_folder({str(tmp_path / "folder")!r}) as part:
        dict(
            write=lambda: (part / "a").write_bytes(bytes(1_000_000)),
            torch=lambda: torch.save(x, part / "a"),
            safetensors=lambda: save_file(x, part / "a"),
        )[{writer!r}]()
except OSError as error:
    print(error.errno, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith(f"{errno.EFBIG} ") and "Remedy: make room" in done.stdout
    assert f"could not write {tmp_path / 'folder'}" in done.stdout
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_one_message(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "below", Path("/proc/nothing/here")):
        with pytest.raises(OSError, match=f"could not write {place}"), atomic.new_folder(place):
            pass
    # What its writer does not find is the writer's own error.
    with pytest.raises(FileNotFoundError, match="gone"), atomic.new_folder(tmp_path / "f"):
        (tmp_path / "gone").read_text()
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("writer", ["write", "torch.save"])
def test_a_full_disk_is_one_message(tmp_path, writer):
    """A real limit on the size of files: the write itself fails half-way, in C++ for torch."""
    code = f"""
import resource, signal, sys, torch
from espnet_blora.utils import atomic
path = {str(tmp_path / "file")!r}
atomic.write(path, "old")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    if {writer!r} == "write":
        atomic.write(path, b"x" * 1_000_000)
    else:
        with atomic.writing(path) as file:
            torch.save({{"x": torch.zeros(1_000_000)}}, file)
except OSError as error:
    print(error.errno, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith(f"{errno.EFBIG} ")
    assert str(tmp_path / "file") in done.stdout and "intact" in done.stdout
    assert names(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "old"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"could not write .*file/below"):
        atomic.write(tmp_path / "file" / "below", "x")


def test_leftovers_of_a_killed_writer_are_found(tmp_path):
    code = f"""
import os, signal
from espnet_blora.utils import atomic
with atomic.writing({str(tmp_path / "file")!r}) as file:
    file.write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    (left,) = atomic.leftovers(tmp_path)
    assert left.name.startswith(".file.")
    assert not (tmp_path / "file").exists()
    code = code.replace("writing", "new_folder").replace("file.write", '(file / "a").write_bytes')
    subprocess.run([sys.executable, "-c", code], check=False)
    assert len(atomic.leftovers(tmp_path)) == 2 and not (tmp_path / "file").exists()
    with atomic.new_folder(tmp_path / "file") as part:  # the next one does not mind
        (part / "whole").touch()
    assert names(tmp_path / "file") == ["whole"]


def test_tensors_of_any_size_come_back(tmp_path):
    with atomic.writing(tmp_path / "x.pth") as file:
        torch.save({"x": torch.arange(9)}, file)
    assert torch.load(tmp_path / "x.pth")["x"].tolist() == list(range(9))
