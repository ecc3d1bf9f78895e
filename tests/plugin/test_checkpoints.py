"""Files that are written whole or not at all, read with one error, repaired, averaged."""

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from espnet2.torch_utils.safe_torch_load import safe_torch_load
from espnet2.train.reporter import Reporter

from espnet_blora.plugin import checkpoints, wrappers

CRITERIA = [("valid", "acc", "max")]


class Refuses:
    """An object that cannot be pickled: saving fails in the middle."""

    def __reduce__(self):
        raise OSError(errno.ENOSPC, "No space left on device")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_save_replaces_the_old_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "checkpoint.pth"
    for value in (1.0, 2.0):
        checkpoints.atomic_save({"x": torch.tensor([value])}, path)
        assert torch.load(path)["x"].item() == value
    assert names(tmp_path) == ["checkpoint.pth"]


def test_a_failed_save_keeps_the_old_file_and_says_what_to_do(tmp_path):
    path = tmp_path / "checkpoint.pth"
    checkpoints.atomic_save({"x": torch.arange(5)}, path)
    before = path.read_bytes()
    with pytest.raises(OSError, match=r"could not write .*checkpoint\.pth.*intact.*make room"):
        checkpoints.atomic_save({"y": torch.arange(9), "x": Refuses()}, path)
    assert path.read_bytes() == before
    assert names(tmp_path) == ["checkpoint.pth"]


def test_a_full_disk_in_the_middle_of_the_file(tmp_path):
    """A real limit on the size of files: the write itself fails half-way, in torch's C++ writer."""
    code = f"""
import resource, signal, sys, torch
from pathlib import Path
from espnet_blora.plugin.checkpoints import atomic_save
path = Path({str(tmp_path)!r}) / "checkpoint.pth"
atomic_save({{"x": torch.zeros(10)}}, path)
before = path.read_bytes()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    atomic_save({{"x": torch.zeros(1_000_000)}}, path)
except OSError as error:
    assert path.read_bytes() == before
    print("told:", error)
else:
    sys.exit("no error")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "told:" in done.stdout and "intact" in done.stdout and "resumes" in done.stdout
    assert names(tmp_path) == ["checkpoint.pth"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000
    assert signal.getsignal(signal.SIGXFSZ) is not None


def test_the_trainers_torch_differs_only_in_save():
    proxy = wrappers.torch_with_atomic_save(torch)
    assert proxy.save is checkpoints.atomic_save
    assert proxy.nn is torch.nn and proxy.no_grad is torch.no_grad


@pytest.mark.parametrize("keys", [(), checkpoints.RESUME_KEYS])
def test_unreadable_files_are_one_clear_error(tmp_path, keys):
    load = checkpoints.checked_loader(safe_torch_load, keys)
    with pytest.raises(FileNotFoundError, match="no checkpoint file"):
        load(tmp_path / "none.pth")

    whole = tmp_path / "whole.pth"
    checkpoints.atomic_save({key: {"w": torch.randn(1000)} for key in (keys or ["w"])}, whole)
    assert load(whole, map_location="cpu")
    data = whole.read_bytes()
    cases = {"empty": b"", "truncated": data[: len(data) // 2], "garbage": os.urandom(5000)}
    for name, content in cases.items():
        path = tmp_path / f"{name}.pth"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}\.pth.*truncated or corrupted.*Remedy"):
            load(path)
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"list\.pth holds a list"):
        load(tmp_path / "list.pth")


def test_a_file_that_is_no_training_state_is_not_resumed_from(tmp_path):
    path = tmp_path / "checkpoint.pth"
    torch.save({"model": {}}, path)
    with pytest.raises(ValueError, match=r"lacks reporter, optimizers, schedulers, scaler"):
        checkpoints.checked_loader(safe_torch_load, checkpoints.RESUME_KEYS)(path)


def experiment(folder: Path, epochs: int, states=None) -> Reporter:
    """Write what ESPnet writes: epoch files, links, checkpoint.pth; accuracy falls from epoch 2."""
    reporter = Reporter()
    for epoch in range(1, epochs + 1):
        reporter.set_epoch(epoch)
        with reporter.observe("valid") as sub:
            sub.register({"acc": 0.5 if epoch == 1 else 1.0 / epoch + 0.2})
            sub.next()
        model = states[epoch - 1] if states else {"w": torch.full((3,), float(epoch))}
        torch.save(model, folder / f"{epoch}epoch.pth")
    torch.save(
        {
            "model": model,
            "reporter": reporter.state_dict(),
            "optimizers": [],
            "schedulers": [],
            "scaler": None,
        },
        folder / "checkpoint.pth",
    )
    (folder / "latest.pth").symlink_to(f"{epochs}epoch.pth")
    (folder / "valid.acc.best.pth").symlink_to("2epoch.pth")
    return reporter


@pytest.mark.parametrize("damage", ["gone", "truncated", "none"])
def test_a_missing_epoch_is_rebuilt_before_resume(tmp_path, damage):
    experiment(tmp_path, 3)
    (tmp_path / ".checkpoint.pth.x1.part").write_bytes(b"half")
    last = tmp_path / "3epoch.pth"
    if damage == "gone":
        last.unlink()
        (tmp_path / "latest.pth").unlink()
        (tmp_path / "latest.pth").symlink_to("2epoch.pth")
    elif damage == "truncated":
        last.write_bytes(last.read_bytes()[:100])
    done = checkpoints.repair(tmp_path, CRITERIA)
    assert torch.load(last)["w"].tolist() == [3.0] * 3
    assert os.readlink(tmp_path / "latest.pth") == "3epoch.pth"
    assert os.readlink(tmp_path / "valid.acc.best.pth") == "2epoch.pth"
    assert any("rebuilt 3epoch.pth" in line for line in done) is (damage != "none")
    assert not list(tmp_path.glob(".*tmp*"))
    assert checkpoints.repair(tmp_path, CRITERIA) == []


def test_links_are_repaired(tmp_path):
    experiment(tmp_path, 3)
    (tmp_path / "valid.acc.best.pth").unlink()
    (tmp_path / "latest.pth").unlink()
    assert len(checkpoints.repair(tmp_path, CRITERIA)) == 2
    assert os.readlink(tmp_path / "valid.acc.best.pth") == "2epoch.pth"
    assert os.readlink(tmp_path / "latest.pth") == "3epoch.pth"


def test_a_damaged_checkpoint_stops_the_resume(tmp_path):
    experiment(tmp_path, 2)
    (tmp_path / "checkpoint.pth").write_bytes(b"PK\x03\x04" + b"0" * 100)
    with pytest.raises(ValueError, match=r"checkpoint\.pth.*truncated or corrupted.*move"):
        checkpoints.repair(tmp_path, CRITERIA)


def test_average_of_whole_models_leaves_numbers_and_flags_alone(tmp_path):
    states = [
        {
            "w": torch.tensor([float(i), -1.0]),
            "same": torch.tensor([0.1, 0.2, 0.3]),
            "count": torch.tensor(32),
            "flag": torch.tensor([True, False]),
            "byte": torch.tensor([7], dtype=torch.uint8),
            "half": torch.tensor([float(i)], dtype=torch.float16),
        }
        for i in (1, 2, 3)
    ]
    reporter = experiment(tmp_path, 3, states)
    checkpoints.average_nbest_models(tmp_path, reporter, CRITERIA, [1, 3])
    averaged = torch.load(tmp_path / "valid.acc.ave_3best.pth")
    assert averaged["w"].tolist() == [2.0, -1.0]
    assert torch.equal(averaged["same"], states[0]["same"])
    assert averaged["count"].item() == 32 and averaged["count"].dtype == torch.int64
    assert averaged["flag"].tolist() == [True, False] and averaged["flag"].dtype == torch.bool
    assert averaged["byte"].tolist() == [7] and averaged["half"].dtype == torch.float16
    assert averaged["half"].item() == 2.0
    assert os.readlink(tmp_path / "valid.acc.ave_1best.pth") == "2epoch.pth"
    assert os.readlink(tmp_path / "valid.acc.ave.pth") == "valid.acc.ave_3best.pth"
    # The inputs are as they were: nothing was summed in place.
    assert torch.load(tmp_path / "2epoch.pth")["w"].tolist() == [2.0, -1.0]
    # A second call replaces the links and files.
    checkpoints.average_nbest_models(tmp_path, reporter, CRITERIA, 3, suffix="till3epoch")
    assert (tmp_path / "valid.acc.ave_3best.till3epoch.pth").is_file()
    assert (tmp_path / "valid.acc.ave.till3epoch.pth").is_symlink()


def test_averaging_without_a_lost_epoch(tmp_path, caplog):
    reporter = experiment(tmp_path, 3)
    (tmp_path / "2epoch.pth").unlink()
    checkpoints.average_nbest_models(tmp_path, reporter, CRITERIA, 2)
    # Ranked 2, 3, 1 and cut to the two best: epoch 2 is lost, epoch 3 remains.
    assert "no file of epochs [2]" in caplog.text
    assert os.readlink(tmp_path / "valid.acc.ave.pth") == "valid.acc.ave_1best.pth"
    assert os.readlink(tmp_path / "valid.acc.ave_1best.pth") in ("1epoch.pth", "3epoch.pth")
