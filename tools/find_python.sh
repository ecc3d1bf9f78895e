#!/usr/bin/env bash
# Print the path of a Python that can carry the environment: 3.12 or 3.13, with ssl, ctypes and venv.
#
#   tools/find_python.sh            look on PATH, in pyenv's versions/, then let uv fetch one
#   PYTHON=/path/python3.12 ...     take this one or fail
#
# A candidate counts only if it runs: pyenv's shims exist for versions that are not active.
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

uv_pin="uv==0.13.8"

# probe CANDIDATE ["pip"]: print its real path if it will do; with "pip", only if venv can bring pip.
probe() {
    "$1" - "${2:-}" 2>/dev/null <<'PY'
import sys
if sys.version_info[:2] not in ((3, 12), (3, 13)):
    sys.exit(1)
import ctypes, ssl, venv, zlib
if sys.argv[1] == "pip":
    import ensurepip
print(getattr(sys, "_base_executable", None) or sys.executable)
PY
}

if [ -n "${PYTHON:-}" ]; then
    probe "${PYTHON}" && exit 0
    found=$("${PYTHON}" --version 2>&1 | head -n 1) || found="it does not run"
    die "PYTHON=${PYTHON} cannot carry the environment (${found})" \
        "needed: Python 3.12 or 3.13 with the modules ssl, ctypes and venv"
fi

candidates=()
for name in python3.12 python3.13 python3; do
    while IFS= read -r path; do
        candidates+=("${path}")
    done < <(type -aP "${name}" || true)
done
for path in "${PYENV_ROOT:-${HOME:-/nonexistent}/.pyenv}"/versions/3.1[23]*/bin/python; do
    [ -x "${path}" ] && candidates+=("${path}")
done

# A Python without ensurepip (Debian's without python3-venv) is the second choice: pip must come from elsewhere.
for want in pip ""; do
    for path in ${candidates[@]+"${candidates[@]}"}; do
        probe "${path}" "${want}" && exit 0
    done
done

uv=$(type -P uv || true)
if [ -z "${uv}" ]; then
    private=${env_store}/uv
    uv=${private}/bin/uv
    for path in ${candidates[@]+"${candidates[@]}"}; do
        [ -x "${uv}" ] && break
        "${path}" -m pip --version >/dev/null 2>&1 || continue
        say "no Python 3.12 or 3.13 found: installing ${uv_pin} to fetch one"
        if "${path}" -m pip install -q --target "${private}.new.$$" "${uv_pin}" >&2 && [ -x "${private}.new.$$/bin/uv" ]; then
            replace "${private}" "${private}.new.$$"
        fi
        rm -rf -- "${private}.new.$$"
    done
fi
if [ -x "${uv}" ]; then
    say "no Python 3.12 or 3.13 found: uv fetches one into ${env_store}/python"
    export UV_PYTHON_INSTALL_DIR=${env_store}/python UV_PYTHON_INSTALL_BIN=0
    if "${uv}" python install 3.12 >&2 && path=$("${uv}" python find 3.12); then
        probe "${path}" && exit 0
    fi
fi

die "no Python 3.12 or 3.13 that works (looked on PATH, in pyenv's versions/, and asked uv)" \
    "any one of these helps, then run make again:" \
    "  apt-get install python3.12-venv    (as root; or python3.13-venv, whichever your release has)" \
    "  pyenv install 3.12                 (no root)" \
    "  make env PYTHON=/path/to/python3.12"
