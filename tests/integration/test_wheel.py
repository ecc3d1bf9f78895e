"""A clean environment with the wheel alone: a recipe's folder, own speech, a report, an export."""

import ast
import json
import os
import shutil
import subprocess
import sys
import sysconfig

import pytest

from tests.integration.conftest import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1500)]
TAG = "tiny_max_epoch_1"
FASTER_WHISPER = """
import sys
import soundfile
from faster_whisper import WhisperModel

model = WhisperModel(sys.argv[1], device="cpu", compute_type="float32")
wave, _ = soundfile.read(sys.argv[2], dtype="float32")  # 16 kHz
segments, _ = model.transcribe(wave, language="en", beam_size=1)
print([segment.text for segment in segments])
"""


def run(*command, cwd, **environment):
    done = subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "HOME": str(cwd), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The `bin` of an environment: the wheel of a source distribution, and its dependencies."""
    top = tmp_path_factory.mktemp("wheel")
    source = top / "source"
    skip = shutil.ignore_patterns("exp*", "dump*", "data", "downloads", "__pycache__", "TEMPLATE")
    for name in ("espnet_blora", "egs2"):
        # `data` is a room of the package, and results in a recipe
        ignore = skip if name == "egs2" else shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignore)
    (source / "tools").mkdir()
    for path in [*ROOT.glob("*.*"), ROOT / "LICENSE", *ROOT.glob("tools/*.*")]:
        if path.is_file():
            shutil.copy2(path, source / path.relative_to(ROOT))
    env = {"PATH": os.environ["PATH"]}
    run(sys.executable, "setup.py", "-q", "sdist", cwd=source, **env)
    (archive,) = (source / "dist").iterdir()
    pip = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
    offline = ("--no-index", "--no-deps")
    run(*pip, "wheel", *offline, "--no-build-isolation", "-w", top, archive, cwd=top, **env)

    # The dependencies are those of this environment: to install them again would take minutes.
    run(sys.executable, "-m", "venv", "--without-pip", top / "clean", cwd=top)
    python = top / "clean/bin/python"
    query = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    place = run(python, "-c", query, cwd=top).strip()
    packages = sysconfig.get_paths()["purelib"]
    with open(f"{place}/dependencies.pth", "w") as file:
        file.write(f"import site; site.addsitedir({packages!r})\n")
    (wheel,) = top.glob("*.whl")
    run(*pip, "--python", python, "install", *offline, wheel, cwd=top, **env)
    return python.parent


def test_own_speech_without_the_repository(installed, tmp_path):
    for recipe, name in (("mini_cs", "mini_cs"), ("custom", "mine")):
        template = {"ESPNET_ROOT": str(ROOT / "tools/espnet")}
        words = ("new", recipe, tmp_path / "work", "--name", name)
        run(installed / "espnet-blora", *words, cwd=tmp_path, **template)
    mine = tmp_path / "work/egs2/mine/asr1"
    (base,) = (tmp_path / "work/egs2/mini_cs/asr1/base").iterdir()

    def shell(command):
        return run("bash", "-euo", "pipefail", "-c", f". ./path.sh; {command}", cwd=mine)

    where = shell("python3 -c 'import espnet_blora; print(espnet_blora.__file__)'")
    assert "/clean/" not in str(ROOT) and where.strip().endswith("espnet_blora/__init__.py")
    assert str(ROOT) not in where

    # Sixty utterances, one epoch, stages 1-13.
    shell("python3 ../../mini_cs/asr1/local/make_corpus.py own --sets train_cs --scale 0.1 --nj 1")
    (mine / "tiny.safetensors").symlink_to(base)
    shell(
        f"./run.sh --adapter blora --whisper tiny.safetensors --set max_epoch=1 --nj 1"
        f" --corpus_dir {mine}/own/train_cs"
    )
    experiment = f"exp/asr_blora_{TAG}"
    score = json.loads((mine / experiment / "decode/test/score_blora/score.json").read_text())
    assert score
    shell(f"espnet-blora report --tag {TAG}")
    assert "<html" in (mine / "exp/retention.html").read_text()

    # Out of the house.
    shell(f"espnet-blora export {experiment} out/hf --to hf --check 3")
    assert (mine / "out/hf/model.safetensors").stat().st_size > 10**6
    shell(f"espnet-blora export {experiment} out/ct2 --to ct2 --check 3")
    wave = next((mine / "own/audio/train_cs").iterdir())
    (mine / "hear.py").write_text(FASTER_WHISPER)
    heard = shell(f"python3 hear.py out/ct2 {wave}")
    assert ast.literal_eval(heard.splitlines()[-1])
    shell(f"espnet-blora transcribe --asr_exp {experiment} --output_dir out/text {wave}")
    assert json.loads((mine / "out/text" / f"{wave.stem}.json").read_text())["segments"]
