"""The environment is built once, entirely or not at all; scripts play its Python and pip."""

import os
import shutil
import signal
import subprocess
import time


def test_build_then_nothing_to_do(checkout):
    checkout.python("python3.12")
    first = checkout.run("setup_env.sh")
    assert first.returncode == 0, first.stderr
    assert (checkout.tools / "venv/.complete").is_file()
    calls = (checkout.home / "pip.log").read_text()
    assert "--no-deps -r" in calls
    second = checkout.run("setup_env.sh")
    assert (second.returncode, second.stderr) == (0, "")
    assert (checkout.home / "pip.log").read_text() == calls


def test_changed_lock_rebuilds_and_drops_the_old(checkout):
    checkout.python("python3.12")
    checkout.run("setup_env.sh")
    old = os.readlink(checkout.tools / "venv")
    with (checkout.tools / "requirements.lock").open("a") as lock:
        lock.write("another==1.0\n")
    assert checkout.run("setup_env.sh").returncode == 0
    assert os.readlink(checkout.tools / "venv") != old
    assert not (checkout.tools / old).exists()


def test_failed_install_keeps_nothing_and_says_what_to_do(checkout):
    checkout.python("python3.12", pip="echo 'pip: no route to host' >&2; exit 1")
    failed = checkout.run("setup_env.sh")
    assert failed.returncode == 1
    for words in ("no route to host", "could not install", "PIP_INDEX_URL", "make env again"):
        assert words in failed.stderr
    assert "venv" not in checkout.made()
    assert not list((checkout.tools / ".envs").glob("py*/"))


def test_failed_rebuild_leaves_the_old_environment(checkout):
    checkout.python("python3.12")
    checkout.run("setup_env.sh")
    old = os.readlink(checkout.tools / "venv")
    with (checkout.tools / "requirements.lock").open("a") as lock:
        lock.write("another==1.0\n")
    checkout.python("python3.12", pip="exit 1")
    assert checkout.run("setup_env.sh").returncode == 1
    assert os.readlink(checkout.tools / "venv") == old
    assert (checkout.tools / old / ".complete").is_file()


def test_interrupt_keeps_nothing(checkout):
    checkout.python("python3.12", pip=f'touch "{checkout.home}/busy"; exec sleep 60')
    process = subprocess.Popen(
        ["bash", str(checkout.tools / "setup_env.sh")],
        env=checkout.env(),
        stderr=subprocess.PIPE,
        start_new_session=True,
        # a job in the background of a script ignores it, and bash then cannot trap it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for _ in range(2000):
        if (checkout.home / "busy").exists():
            break
        time.sleep(0.05)
    assert list((checkout.tools / ".envs").glob("py*/venv"))
    os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C in a terminal does
    process.communicate()
    assert process.returncode != 0
    assert not list((checkout.tools / ".envs").glob("py*/"))
    assert "venv" not in checkout.made()


def test_half_made_environment_is_rebuilt(checkout):
    """A machine that lost power leaves a folder without its marker."""
    checkout.python("python3.12")
    checkout.run("setup_env.sh")
    (checkout.tools / "venv/.complete").unlink()
    again = checkout.run("setup_env.sh")
    assert "building" in again.stderr
    assert (checkout.tools / "venv/.complete").is_file()


def test_environment_whose_python_is_gone_is_rebuilt(checkout):
    checkout.python("python3.12")
    checkout.run("setup_env.sh")
    (checkout.tools / "venv/bin/python").unlink()
    assert checkout.run("setup_env.sh").returncode == 0
    assert (checkout.tools / "venv/bin/python").exists()


def test_cache_outside_the_checkout_is_shared(checkout):
    cache = checkout.home / "cache"
    checkout.python("python3.12")
    env = {"ESPNET_BLORA_ENV_CACHE": str(cache)}
    assert checkout.run("setup_env.sh", **env).returncode == 0
    assert cache in (checkout.tools / "venv").resolve().parents
    shutil.rmtree(checkout.tools / ".envs", ignore_errors=True)
    (checkout.tools / "venv").unlink()
    second = checkout.run("setup_env.sh", **env)
    assert "building" not in second.stderr
    assert (checkout.tools / "venv/.complete").is_file()


def test_two_at_a_time_build_once(checkout):
    """One builds until the other has said that it waits."""
    said = [checkout.home / name for name in ("one", "two")]
    heard = " ".join(f'"{path}"' for path in said)
    wait = f"timeout 60 bash -c 'until grep -qs waiting {heard}; do sleep 0.1; done'"
    checkout.python("python3.12", pip=wait)
    cache = {"ESPNET_BLORA_ENV_CACHE": str(checkout.home / "cache")}
    command = ["bash", str(checkout.tools / "setup_env.sh")]
    both = [
        subprocess.Popen(command, env=checkout.env(**cache), stderr=path.open("w")) for path in said
    ]
    codes, texts = [process.wait() for process in both], [path.read_text() for path in said]
    assert codes == [0, 0], texts
    assert sum("building" in text for text in texts) == 1
    assert sum("waiting" in text for text in texts) == 1


def test_full_disk_is_told_before_anything_is_made(checkout):
    checkout.python("python3.12")
    (checkout.programs / "df").unlink()
    checkout.program("df", "printf 'Filesystem\\n/dev/x 9 9 1048576 1%% /\\n'")
    failed = checkout.run("setup_env.sh")
    assert failed.returncode == 1
    assert "1 GB free" in failed.stderr
    assert "ESPNET_BLORA_ENV_CACHE" in failed.stderr
    assert "venv" not in checkout.made()


def test_python_without_ensurepip_takes_pip_from_apt(checkout):
    checkout.python("python3", (3, 13), ensurepip=False)
    failed = checkout.run("setup_env.sh")
    assert failed.returncode == 1
    assert "no ensurepip" in failed.stderr
    assert "python3-venv" in failed.stderr
    assert not list((checkout.tools / ".envs").glob("py*/"))
    checkout.program("apt-get", "touch python3-pip-whl_1_all.deb")
    checkout.program("dpkg-deb", 'mkdir -p "$3/usr"; touch "$3/usr/pip-25.1-py3-none-any.whl"')
    done = checkout.run("setup_env.sh")
    assert done.returncode == 0, done.stderr
    first = (checkout.home / "pip.log").read_text().splitlines()[0]
    assert "pip-25.1-py3-none-any.whl/pip install" in first
    assert (checkout.tools / "venv/.complete").is_file()


def test_environment_made_by_hand_is_never_removed(checkout):
    """Somebody's own folder at tools/venv is taken when they say so, and is otherwise theirs."""
    checkout.python("python3.12")
    checkout.run("setup_env.sh")
    (checkout.tools / "venv").unlink()
    shutil.copytree(next((checkout.tools / ".envs").glob("py*/venv")), checkout.tools / "venv")
    (checkout.tools / "venv/.complete").unlink()
    refused = checkout.run("setup_env.sh")
    assert refused.returncode == 1
    assert "made by hand" in refused.stderr
    assert "rm -rf tools/venv" in refused.stderr
    assert (checkout.tools / "venv/bin/python").exists()
    assert checkout.run("setup_env.sh", "--mark").returncode == 0
    assert checkout.run("setup_env.sh").returncode == 0
    assert not (checkout.tools / "venv").is_symlink()
