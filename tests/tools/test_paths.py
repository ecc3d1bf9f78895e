"""What ESPnet's path.sh sources: our Python and our sclite come first, and stay so."""

import subprocess


def sourced(checkout, *files, then, **env):
    lines = [f'. "{checkout.tools}/{name}"' for name in files]
    return subprocess.run(
        ["bash", "-euc", "\n".join([*lines, then])],
        env=checkout.env(**env),
        cwd=checkout.home,
        capture_output=True,
        text=True,
    )


def test_python_and_package_come_first(checkout):
    python = checkout.program("python3", "echo ours", folder=checkout.tools / "venv/bin")
    checkout.program("python3", "echo theirs")
    then = 'python3; type -P python3; echo "$PYTHONPATH"'
    for times in (1, 2):
        run = sourced(checkout, *["activate_python.sh"] * times, then=then)
        assert run.stdout.split("\n")[:3] == ["ours", str(python), str(checkout.root)]
    run = sourced(checkout, "activate_python.sh", then='echo "$PYTHONPATH"', PYTHONPATH="/their/a")
    assert run.stdout.strip() == f"{checkout.root}:/their/a"


def test_missing_environment_stops_the_recipe(checkout):
    run = sourced(checkout, "activate_python.sh", then="echo went on")
    assert run.returncode != 0
    assert "went on" not in run.stdout
    assert f"make -C {checkout.root} env" in run.stderr


def test_our_sclite_stands_before_every_other(checkout):
    checkout.program("sclite", "echo debian", folder=checkout.tools / "sctk/bin")
    checkout.program("sclite", "echo system")
    run = sourced(checkout, "extra_path.sh", then="sclite")
    assert run.stdout == "debian\n"
    again = sourced(checkout, "extra_path.sh", "extra_path.sh", then='echo "$PATH"')
    assert again.stdout.count("sctk/bin") == 1


def test_tools_of_a_linked_checkout_come_along_behind_ours(checkout):
    theirs = checkout.home / "espnet"
    checkout.program("sclite", "echo theirs", folder=theirs / "tools/sctk/bin")
    checkout.program("kaldi", "echo kaldi", folder=theirs / "tools/sctk/bin")
    (theirs / "tools/extra_path.sh").write_text(f'export PATH="{theirs}/tools/sctk/bin:$PATH"\n')
    (checkout.tools / "espnet").symlink_to(theirs)
    assert sourced(checkout, "extra_path.sh", then="kaldi; sclite").stdout.split() == [
        "kaldi",
        "theirs",
    ]
    checkout.program("sclite", "echo ours", folder=checkout.tools / "sctk/bin")
    assert sourced(checkout, "extra_path.sh", then="kaldi; sclite").stdout.split() == [
        "kaldi",
        "ours",
    ]
