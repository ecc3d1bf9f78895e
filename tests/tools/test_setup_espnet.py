"""ESPnet's template: pinned archive or checkout, whole or not at all."""

import hashlib
import io
import os
import tarfile

import pytest

FILES = {
    "LICENSE": "licence",
    "version.txt": "202611\n",
    "tools/extra_path.sh": "",
    "egs2/TEMPLATE/asr1/asr.sh": "#!/bin/bash\n",
    "egs2/mini_an4/asr1/downloads.tar.gz": "sounds",
    "egs2/other/asr1/run.sh": "not needed",
}


@pytest.fixture
def archive(checkout):
    """A source distribution of our own, pinned by the copied espnet.lock."""
    path = checkout.home / "espnet-202611.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, text in FILES.items():
            member = tarfile.TarInfo(f"espnet-202611/{name}")
            member.size = len(text)
            member.mode = 0o755 if name.endswith(".sh") else 0o644
            tar.addfile(member, io.BytesIO(text.encode()))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (checkout.tools / "espnet.lock").write_text(f"espnet==202611 --hash=sha256:{digest}\n")
    return path


def checkout_of(folder, version):
    for name, text in {**FILES, "version.txt": version + "\n"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_unpacks_what_recipes_need(checkout, archive):
    done = checkout.run("setup_espnet.sh", ESPNET_SDIST=str(archive))
    assert done.returncode == 0, done.stderr
    espnet = checkout.tools / "espnet"
    assert os.access(espnet / "egs2/TEMPLATE/asr1/asr.sh", os.X_OK)
    assert (espnet / "egs2/mini_an4/asr1/downloads.tar.gz").is_file()
    assert (espnet / "tools/extra_path.sh").is_file()
    assert not (espnet / "egs2/other").exists()
    assert checkout.made() == {"espnet"}
    archive.unlink()
    again = checkout.run("setup_espnet.sh")
    assert (again.returncode, again.stderr) == (0, "")


def test_archive_comes_from_pip_with_its_hash_required(checkout, archive):
    fetch = f'while [ "$1" != -d ]; do shift; done; cp "{archive}" "$2/"'
    checkout.python("python3.12", pip=f'case "$*" in *download*) {fetch} ;; esac')
    assert checkout.run("setup_env.sh").returncode == 0
    done = checkout.run("setup_espnet.sh")
    assert done.returncode == 0, done.stderr
    assert (checkout.tools / "espnet/version.txt").read_text() == "202611\n"
    assert "--require-hashes" in (checkout.home / "pip.log").read_text()


def test_another_checksum_leaves_nothing(checkout, archive):
    with archive.open("ab") as file:
        file.write(b"more")
    failed = checkout.run("setup_espnet.sh", ESPNET_SDIST=str(archive))
    assert failed.returncode == 1
    assert "sha256" in failed.stderr
    assert str(archive) in failed.stderr
    assert checkout.made() == set()


def test_failed_fetch_says_how_without_network(checkout):
    checkout.python("python3.12", pip='case "$*" in *download*) exit 1 ;; esac')
    checkout.run("setup_env.sh")
    failed = checkout.run("setup_espnet.sh")
    assert failed.returncode == 1
    assert "ESPNET_SDIST=" in failed.stderr
    assert "ESPNET_ROOT=" in failed.stderr
    assert "espnet" not in checkout.made()


def test_checkout_is_linked_and_stays(checkout):
    theirs = checkout_of(checkout.home / "espnet", "202611")
    done = checkout.run("setup_espnet.sh", ESPNET_ROOT=str(theirs))
    assert done.returncode == 0, done.stderr
    assert (checkout.tools / "espnet").resolve() == theirs
    assert checkout.run("setup_espnet.sh").returncode == 0
    assert (checkout.tools / "espnet").resolve() == theirs


def test_checkout_replaces_the_unpacked_template(checkout, archive):
    checkout.run("setup_espnet.sh", ESPNET_SDIST=str(archive))
    theirs = checkout_of(checkout.home / "espnet", "202611.post1")
    assert checkout.run("setup_espnet.sh", ESPNET_ROOT=str(theirs)).returncode == 0
    assert (checkout.tools / "espnet").resolve() == theirs
    assert checkout.made() == {"espnet"}


@pytest.mark.parametrize("version", ["202511", "2026111", ""])
def test_checkout_of_another_release_is_refused(checkout, version):
    theirs = checkout_of(checkout.home / "espnet", version)
    failed = checkout.run("setup_espnet.sh", ESPNET_ROOT=str(theirs))
    assert failed.returncode == 1
    assert f"is ESPnet {version}" in failed.stderr
    assert "needed: 202611" in failed.stderr
    assert checkout.made() == set()


def test_what_is_no_checkout_is_refused(checkout):
    (checkout.home / "empty").mkdir()
    for folder, said in (("empty", "no ESPnet checkout"), ("absent", "not a folder")):
        failed = checkout.run("setup_espnet.sh", ESPNET_ROOT=str(checkout.home / folder))
        assert failed.returncode == 1
        assert said in failed.stderr


def test_linked_checkout_that_moved_on_is_an_error(checkout):
    theirs = checkout_of(checkout.home / "espnet", "202611")
    checkout.run("setup_espnet.sh", ESPNET_ROOT=str(theirs))
    checkout_of(theirs, "202612")
    failed = checkout.run("setup_espnet.sh")
    assert failed.returncode == 1
    assert "is ESPnet 202612" in failed.stderr
    assert "rm tools/espnet" in failed.stderr
