"""sclite comes from apt without root, from PATH, or not at all, and then set-up still ends well."""

import pytest

SCLITE = "echo 'sclite Version: 2.10' >&2; exit 1"
# apt-get download leaves a file; dpkg-deb -x turns it into the package's folders.
APT = 'for a; do case $a in download) touch "${@: -1}_1_amd64.deb" ;; esac; done'


def dpkg(script):
    return f"""
        mkdir -p "$3/usr/lib/sctk/bin" "$3/usr/share/doc/sctk"
        echo free >"$3/usr/share/doc/sctk/copyright"
        printf '#!/bin/bash\\n%s\\n' "{script}" >"$3/usr/lib/sctk/bin/sclite"
        chmod +x "$3/usr/lib/sctk/bin/sclite\""""


def test_package_is_unpacked_without_root(checkout):
    checkout.program("apt-get", APT)
    checkout.program("dpkg-deb", dpkg(SCLITE))
    done = checkout.run("setup_sclite.sh")
    assert done.returncode == 0, done.stderr
    assert (checkout.tools / "sctk/bin/sclite").is_file()
    assert (checkout.tools / "sctk/copyright").is_file()
    assert checkout.made() == {"sctk"}
    again = checkout.run("setup_sclite.sh")
    assert (again.returncode, again.stderr) == (0, "")


def test_machine_without_package_lists_fetches_its_own(checkout):
    """A fresh container has no lists: download works only after an update into our folder."""
    checkout.program(
        "apt-get",
        f"""
        case "$*" in
        *update*) touch "{checkout.home}/lists" ;;
        *Dir::State=*download*) [ -e "{checkout.home}/lists" ] && touch sctk_1_amd64.deb ;;
        *) echo 'E: Unable to locate package sctk'; exit 100 ;;
        esac""",
    )
    checkout.program("dpkg-deb", dpkg(SCLITE))
    assert checkout.run("setup_sclite.sh").returncode == 0
    assert checkout.made() == {"sctk"}


def test_sclite_on_path_is_enough(checkout):
    checkout.program("sclite", SCLITE)
    done = checkout.run("setup_sclite.sh")
    assert (done.returncode, done.stderr) == (0, "")
    assert checkout.made() == set()


@pytest.mark.parametrize("case", ["no apt", "apt fails", "does not run"])
def test_without_sclite_setup_goes_on_and_says_how(checkout, case):
    if case != "no apt":
        checkout.program("apt-get", APT if case == "does not run" else "echo 'E: no'; exit 100")
        checkout.program("dpkg-deb", dpkg("exit 127"))
    first = checkout.run("setup_sclite.sh")
    assert first.returncode == 0
    for words in ("not scored", "apt-get install sctk", "make sclite"):
        assert words in first.stderr
    assert checkout.made() == {".sclite_missing"}
    checkout.program("apt-get", "exit 99")
    checkout.program("dpkg-deb", "exit 99")
    assert "fetching" not in checkout.run("setup_sclite.sh").stderr  # no slow try each time
    checkout.program("apt-get", APT)
    checkout.program("dpkg-deb", dpkg(SCLITE))
    assert checkout.run("setup_sclite.sh", "--retry").returncode == 0
    assert checkout.made() == {"sctk"}
