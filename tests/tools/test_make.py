"""The commands people type: make's list of targets, lint, and what a change must pass."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_help_lists_the_targets_of_the_readme():
    text = subprocess.run(
        ["make", "-C", ROOT, "--no-print-directory"], capture_output=True, text=True, check=True
    ).stdout
    listed = re.findall(r"^  make (\S+) +\S", text, re.MULTILINE)
    assert {"env", "demo", "test", "test-unit", "lint", "bench", "clean"} <= set(listed)
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    assert set(listed) == set(phony.split())


@pytest.fixture
def repository(tmp_path):
    """A small repository with our lint; ruff, mypy and import-linter are always content."""
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools/lint.sh", tmp_path / "tools")
    shutil.copy(ROOT / ".shellcheckrc", tmp_path)
    (tmp_path / "bin").mkdir()
    for name in ("python3", "lint-imports"):
        (tmp_path / "bin" / name).write_text("#!/bin/bash\nexit 0\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "bin/shellcheck").symlink_to(Path(sys.executable).with_name("shellcheck"))
    (tmp_path / ".gitignore").write_text("/ignored\n/bin\n")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    return tmp_path


def lint(repository):
    return subprocess.run(
        ["bash", "tools/lint.sh"],
        cwd=repository,
        env={"PATH": f"{repository}/bin:/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )


def test_lint_passes_a_clean_tree(repository):
    (repository / "good.sh").write_text("if true; then echo yes; fi\n")
    (repository / "ignored").write_bytes(b"\0" * 3 * 2**20)
    done = lint(repository)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["bad.sh", "program"])
def test_lint_sees_broken_shell(repository, name):
    (repository / name).write_text("#!/usr/bin/env bash\nif true; then\n")
    failed = lint(repository)
    assert failed.returncode == 1
    assert "failed: shellcheck" in failed.stdout
    assert f"In {name} line 2" in failed.stdout


@pytest.mark.parametrize(
    ("path", "mib", "fits"),
    [
        ("notes.bin", 2, True),
        ("notes.bin", 2.1, False),
        ("egs2/mini_cs/asr1/base/tiny.safetensors", 16, True),
        ("egs2/mini_cs/asr1/base/tiny.safetensors", 16.1, False),
    ],
)
def test_lint_keeps_files_small(repository, path, mib, fits):
    (repository / path).parent.mkdir(parents=True, exist_ok=True)
    with (repository / path).open("wb") as file:
        file.truncate(int(mib * 2**20))
    done = lint(repository)
    assert (done.returncode == 0) is fits
    assert (path in done.stdout) is not fits


def test_lint_reports_ruff(repository):
    (repository / "bin/python3").write_text("#!/bin/bash\necho E501; exit 1\n")
    failed = lint(repository)
    assert failed.returncode == 1
    assert "failed: ruff check" in failed.stdout
    assert "[lint] file sizes" in failed.stdout  # the other checks still ran


def test_the_workflow_runs_what_everybody_can_run():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    steps = workflow["jobs"]["check"]["steps"]
    assert steps[-1] == {"run": "bash .ci/run"}
    cached = next(step["with"] for step in steps if "cache" in step.get("uses", ""))
    assert cached["path"] == "~/.cache/espnet_blora"


def test_hooks_before_a_commit_have_the_versions_of_the_lock():
    locked = (ROOT / "tools/requirements.lock").read_text().splitlines()
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert {hook["entry"].split()[0] for hook in hooks} == {"ruff", "shellcheck"}
    for hook in hooks:
        assert set(hook["additional_dependencies"]) <= set(locked), hook["id"]


def test_an_issue_brings_its_conditions():
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text())
    required = {f["id"] for f in form["body"] if f.get("validations", {}).get("required")}
    assert {"command", "conditions"} <= required


@pytest.mark.parametrize("status", [0, 2])
@pytest.mark.parametrize("home", [True, False])
def test_ci_keeps_the_status_and_the_last_line(tmp_path, status, home):
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci")
    (tmp_path / "bin").mkdir()
    make = tmp_path / "bin/make"
    make.write_text(
        f"""#!/bin/bash
        echo "$CI ${{@: -1}} ${{ESPNET_BLORA_ENV_CACHE:-none}}"
        [ "${{@: -1}}" = test ] || exit 0
        read -r line && exit 9
        echo '== 3 passed in 1s =='
        exit {status}
        """
    )
    make.chmod(0o755)
    env = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
    if home:
        env["HOME"] = str(tmp_path / "home")
    done = subprocess.run(
        ["bash", ".ci/run"], cwd=tmp_path, env=env, input="noise\n", capture_output=True, text=True
    )
    cache = tmp_path / "home/.cache/espnet_blora" if home else "none"
    assert done.returncode == status
    assert done.stdout.splitlines() == [
        f"true lint {cache}",
        f"true docs {cache}",
        f"true test {cache}",
        "== 3 passed in 1s ==",
    ]
    assert not home or cache.is_dir()
