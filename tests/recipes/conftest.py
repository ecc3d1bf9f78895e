"""A recipe's folder with stand-ins for what it links to."""

import shutil
import sys

import pytest

from tests.recipes.small import RECIPE, program


@pytest.fixture
def recipe(tmp_path):
    """The recipe's own files, with stand-ins for what it links to."""
    for name in ("run.sh", "cmd.sh"):
        shutil.copy2(RECIPE / name, tmp_path / name)
    shutil.copytree(RECIPE / "conf", tmp_path / "conf")
    (tmp_path / "local").mkdir()
    shutil.copy2(RECIPE / "local" / "path.sh", tmp_path / "local")
    (tmp_path / "path.sh").write_text('PATH="${PWD}/theirs:${PATH}"\n. local/path.sh\n')
    (tmp_path / "db.sh").write_text("MINI_CS=\n")
    names = "skip_stages skip_eval skip_packing eval_valid_set nlsyms_txt cleaner hf_repo".split()
    asr = 'printf "%q " "${ESPNET_BLORA_THREADS:--}" "$@" >>calls; echo >>calls'
    program(tmp_path / "asr.sh", "\n".join([f"{name}=  # its option" for name in names] + [asr]))
    (tmp_path / "tiny_mini_cs.safetensors").touch()
    # the program of stage 13 is only noted; its status is that of the file `status`
    program(
        tmp_path / "theirs" / "python3",
        f"""case "$*" in *score_experiment*)
        printf "%q " "$@" >>scored
        echo >>scored
        exit "$(cat status 2>/dev/null || echo 0)" ;;
        esac
        exec {sys.executable} "$@\"""",
    )
    program(tmp_path / "scripts" / "utils" / "show_asr_result.sh", 'echo "# RESULTS of $1"')
    return tmp_path
