"""Which Python carries the environment, on machines that differ in what they have."""

import pytest


def test_names_on_path_come_before_python3(checkout):
    checkout.python("python3", (3, 13))
    wanted = checkout.python("python3.12")
    found = checkout.run("find_python.sh")
    assert (found.returncode, found.stdout.strip()) == (0, str(wanted))


@pytest.mark.parametrize("version", [(3, 12), (3, 13)])
def test_plain_python3_of_the_right_version(checkout, version):
    wanted = checkout.python("python3", version)
    assert checkout.run("find_python.sh").stdout.strip() == str(wanted)


def test_pyenv_versions_behind_a_shim_that_does_not_run(checkout):
    checkout.program("python3.12", "echo 'pyenv: python3.12: command not found' >&2; exit 127")
    checkout.python("python3", (3, 11))
    wanted = checkout.python("python", (3, 13), folder=checkout.home / ".pyenv/versions/3.13.2/bin")
    assert checkout.run("find_python.sh").stdout.strip() == str(wanted)


def test_pyenv_root_is_honoured(checkout):
    root = checkout.home / "elsewhere"
    wanted = checkout.python("python", folder=root / "versions/3.12.9/bin")
    assert checkout.run("find_python.sh", PYENV_ROOT=str(root)).stdout.strip() == str(wanted)


def test_uv_fetches_one(checkout):
    checkout.python("python3", (3, 9))
    fetched = checkout.python("python3.12", folder=checkout.home / "fetched")
    checkout.program(
        "uv",
        f"""
        [ "$UV_PYTHON_INSTALL_DIR" ] || exit 3
        case "$*" in
        "python install 3.12") touch "{checkout.home}/asked" ;;
        "python find 3.12") [ -e "{checkout.home}/asked" ] && echo "{fetched}" ;;
        esac""",
    )
    found = checkout.run("find_python.sh")
    assert found.stdout.strip() == str(fetched)
    assert "uv fetches one" in found.stderr


@pytest.mark.parametrize("have", [None, (3, 11), (3, 14)])
def test_nothing_usable_says_what_to_do(checkout, have):
    if have:
        checkout.python("python3", have)
    found = checkout.run("find_python.sh")
    assert found.returncode == 1
    assert found.stdout == ""
    for word in ("no Python 3.12 or 3.13", "apt-get install", "pyenv install", "PYTHON="):
        assert word in found.stderr


def test_python_asked_for_is_taken_or_refused(checkout):
    checkout.python("python3.12")
    wanted = checkout.python("mine", (3, 13), folder=checkout.home)
    assert checkout.run("find_python.sh", PYTHON=str(wanted)).stdout.strip() == str(wanted)
    old = checkout.python("old", (3, 10), folder=checkout.home)
    refused = checkout.run("find_python.sh", PYTHON=str(old))
    assert refused.returncode == 1
    assert f"PYTHON={old}" in refused.stderr
    assert "Python 3.10.1" in refused.stderr


def test_python_with_ensurepip_is_preferred(checkout):
    checkout.python("python3", (3, 13), ensurepip=False)
    wanted = checkout.python("python", folder=checkout.home / ".pyenv/versions/3.12.4/bin")
    assert checkout.run("find_python.sh").stdout.strip() == str(wanted)
