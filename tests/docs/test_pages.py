"""What the pages of docs/ say is true: files exist, messages are those of the code, pages build."""

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from espnet_blora import adapters, decoding
from espnet_blora.adapters import parse_config

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
TEXTS = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
MADE = ("exp/", "dump/", "downloads/", "data/")  # by a recipe
MADE += ("tools/sctk",)  # by make env, where no sclite is on PATH

ids = {"ids": lambda page: page.name}


@pytest.mark.parametrize("page", TEXTS, **ids)
def test_each_file_it_names_exists(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:espnet_blora|egs2|docs|benchmarks|tools|tests)/[\w./-]+)`", text):
        made = any(part in name for part in MADE) or "my_corpus" in name
        assert made or (ROOT / name).exists(), name


@pytest.mark.parametrize("page", TEXTS, **ids)
def test_lines_are_readable_in_an_editor(page):
    for line in page.read_text(encoding="utf-8").splitlines():
        assert len(line) <= 120 or line.startswith("|") or "http" in line, line


def test_the_api_has_what_rooms_offer_to_programs():
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    for room in (adapters, decoding):
        for name in room.__all__:
            assert re.search(rf"::? {room.__name__}\.{name}$", page, re.MULTILINE), name


def strings_of_the_code() -> str:
    """Every string constant of the package, parts of f-strings and shell files included."""
    texts = []
    for path in ROOT.glob("espnet_blora/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (getattr(value, "value", "\0") for value in node.values)
                texts.append("".join(p if isinstance(p, str) else "\0" for p in parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    for folder in ("espnet_blora/recipes", "tools"):
        texts += [path.read_text(encoding="utf-8") for path in ROOT.glob(f"{folder}/*.sh")]
    return "\n".join(texts)


def test_the_messages_of_troubleshooting_are_those_of_the_code():
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    code = strings_of_the_code()
    checked = 0
    for cell in re.findall(r"^\| (`[^|]+`)[^|`]*\|", page, re.MULTILINE):
        for message in re.findall(r"`([^`]+)`", cell):
            for part in re.split(r"\.\.\.", message):
                words = part.strip(" ():;,")
                if words and words != "CUDA out of memory":  # torch's own
                    assert words in code, message
                    checked += 1
    assert checked > 30


def test_the_yaml_of_the_adapters_page_is_a_valid_configuration():
    page = (ROOT / "docs/adapters.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    conf = yaml.safe_load(block)
    assert conf["use_adapter"] is True
    config = parse_config(conf["adapter"], conf["adapter_conf"])
    assert config.rank == 32 and config.beta == 1.0 and config.prior_std_A == 0.05
    assert tuple(config.target_modules) == ("query", "key")


@pytest.mark.integration
def test_the_pages_build_without_a_warning_or_a_network(tmp_path):
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-n", "docs", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"},
    )
    assert built.returncode == 0, built.stderr
    html = {path.stem: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.html")}
    assert {page.stem for page in PAGES} <= set(html)
    for text in html.values():
        assert not re.search(r"<(?:script|link|img)[^>]+https?://", text)
    assert "floor_plan.svg" in html["architecture"]


def test_the_commands_of_the_export_page_are_understood():
    page = (ROOT / "docs/export.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    lines = [line for line in "".join(blocks).splitlines() if line.startswith("espnet-blora ")]
    seen = set()
    for line in lines:
        name, *words = line.split()[1:]
        importlib.import_module(f"espnet_blora.bin.{name}").get_parser().parse_intermixed_args(
            words
        )
        seen.add(name)
    assert {"export", "import", "sweep", "report"} <= seen
