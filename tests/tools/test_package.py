"""setup.py, the lock, the pinned archive and the list of reasons speak of the same packages."""

import re
import runpy
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement

import espnet_blora
from espnet_blora.utils import workspace

ROOT = Path(__file__).resolve().parents[2]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, Requirement]:
    lines = (ROOT / "tools/requirements.lock").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonical(pin.name): pin for pin in pins}


@pytest.fixture(scope="module")
def metadata():
    with pytest.MonkeyPatch.context() as patch:
        seen = {}
        patch.setattr(setuptools, "setup", lambda **given: seen.update(given))
        runpy.run_path(str(ROOT / "setup.py"))
    return seen


def test_every_dependency_is_locked_at_a_version_it_accepts(metadata):
    wanted = metadata["install_requires"] + metadata["extras_require"]["all"]
    assert len(wanted) > 15
    pins = locked()
    for requirement in map(Requirement, wanted):
        pin = pins[canonical(requirement.name)]
        version = next(iter(pin.specifier)).version
        assert requirement.specifier.contains(version), (requirement, pin)


def test_lock_pins_exactly_and_never_twice():
    lines = (ROOT / "tools/requirements.lock").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert len(locked()) == len(pins)
    for pin in locked().values():
        assert [s.operator for s in pin.specifier] == ["=="], pin


def test_one_release_of_espnet_everywhere(metadata):
    found = re.findall(
        r"^espnet==(\S+)",
        "\n".join(
            [
                *metadata["install_requires"],
                (ROOT / "tools/requirements.lock").read_text(),
                (ROOT / "tools/espnet.lock").read_text(),
            ]
        ),
        re.MULTILINE,
    )
    assert len(found) == 3
    assert len(set(found)) == 1


def test_kaldiio_is_for_tests_only(metadata):
    """Its licence is an evaluation licence; users of the package must not get it from us."""
    assert "kaldiio" in metadata["extras_require"]["test"]
    others = [
        metadata["install_requires"],
        *(metadata["extras_require"][k] for k in ("demo", "peft")),
    ]
    assert not any("kaldiio" in name for names in others for name in names)


def test_each_direct_dependency_has_its_reason(metadata):
    text = (ROOT / "docs/dependencies.md").read_text()
    rows = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    extras = (name for names in metadata["extras_require"].values() for name in names)
    for requirement in map(Requirement, [*metadata["install_requires"], *extras]):
        assert re.search(rf"\b{requirement.name}\b", rows), requirement


def test_version_stands_in_one_place(metadata):
    assert metadata["version"] == espnet_blora.__version__
    assert f"version: {espnet_blora.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_files_that_are_no_python_are_shipped(metadata):
    """Shell files and configurations of recipes, the report's page."""
    package = ROOT / "espnet_blora"
    shipped = {
        path
        for name, patterns in metadata["package_data"].items()
        for pattern in patterns
        for path in (ROOT / name.replace(".", "/")).glob(pattern)
    }
    others = {p for p in package.rglob("*") if p.is_file() and p.suffix not in {".py", ".pyc"}}
    assert len(others) > 10
    assert others == shipped


def test_a_source_distribution_holds_package_and_recipes(tmp_path):
    """`pip install` of it, or of the wheel, has all that `espnet-blora new` puts into a folder."""
    for name in (
        "setup.py",
        "pyproject.toml",
        "MANIFEST.in",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
    ):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "espnet_blora", tmp_path / "espnet_blora")
    wanted = {path.relative_to(ROOT) for path in workspace.files(ROOT)}
    for path in wanted:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    for extra in (
        "tests/test_x.py",
        "egs2/custom/asr1/exp/x",
        "egs2/custom/asr1/local/db.local.sh",
    ):
        (tmp_path / extra).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / extra).write_text("")
    command = [sys.executable, "setup.py", "-q", "sdist"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (archive,) = (tmp_path / "dist").iterdir()
    with tarfile.open(archive) as found:
        names = {
            name.partition("/")[2] for name in found.getnames() if found.getmember(name).isfile()
        }
    assert {"CHANGELOG.md", "espnet_blora/recipes/run.sh", "espnet_blora/report/page.css"} <= names
    assert {name for name in names if name.startswith(("egs2", "tools"))} == set(map(str, wanted))
    assert not [name for name in names if name.startswith("tests")]


def test_recipes_are_carried_whole():
    """Every file of a recipe that git knows but the runs behind RESULTS.md; links are made anew."""
    listed = subprocess.run(
        ["git", "ls-files", "egs2"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    files = {n for n in listed if not (ROOT / n).is_symlink() and "/asr1/results/" not in n}
    carried = {str(path.relative_to(ROOT)) for path in workspace.files(ROOT)}
    assert {name for name in carried if name.startswith("egs2")} >= files
