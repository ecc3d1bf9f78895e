#!/usr/bin/env bash
# Build the Python environment from tools/requirements.lock and point tools/venv at it.
#
# An environment lives in <store>/<fingerprint>/venv, is built there (a venv cannot be moved) and counts as
# built only once its marker is written, last. tools/venv is a link that changes in one step, so a failed or
# interrupted build leaves what was there before. <store> is tools/.envs, or ESPNET_BLORA_ENV_CACHE.
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

recipe=1 # raise when what is built changes though the lock does not
lock=${tools_dir}/requirements.lock
shim=${tools_dir}/shims/editdistance.py
link=${tools_dir}/venv
need_gb=8

[ -f "${lock}" ] || die "${lock} is missing" "restore it: git checkout -- tools/requirements.lock"
want=$(printf '%s %s %s\n' "${recipe}" "$(sha256_of "${lock}")" "$(sha256_of "${shim}")")

# usable VENV: it is complete, made from this lock, and its Python still runs (and is the one asked for).
usable() {
    local version="import sys; print(sys.version_info[:2])"
    [ "$(cat "$1/.complete" 2>/dev/null)" = "${want}" ] || return 1
    [ -z "${PYTHON:-}" ] || [ "$("${PYTHON}" -c "${version}" 2>/dev/null)" = "$("$1/bin/python" -c "${version}" 2>/dev/null)" ] || return 1
    "$1/bin/python" -c "" 2>/dev/null
}

if [ "${1:-}" = --mark ]; then # accept an environment that was made by hand from this lock
    "${link}/bin/python" -m pip check >&2 || die "${link} does not satisfy its own packages" "rebuild: rm -rf tools/venv && make env"
    printf '%s\n' "${want}" >"${link}/.complete"
    exit 0
fi

if usable "${link}"; then
    exit 0
fi

if [ -d "${link}" ] && [ ! -L "${link}" ]; then
    die "tools/venv is a folder that was made by hand, and it is not (or no longer) what tools/requirements.lock says" \
        "to have it made anew: rm -rf tools/venv, then run make env again" \
        "to keep it as it is: bash tools/setup_env.sh --mark"
fi

mkdir -p "${env_store}" || die "cannot make ${env_store}" "set ESPNET_BLORA_ENV_CACHE to a folder you may write to, or unset it"
env_store=$(cd "${env_store}" && pwd -P)
python=$(bash "${tools_dir}/find_python.sh")
tag=$("${python}" -c 'import sys; print("py%d%d" % sys.version_info[:2])')
key=${tag}-$(uname -m)-$(printf '%s' "${want}" | sha256sum | cut -c 1-16)
home=${env_store}/${key}
venv=${home}/venv
hold "${env_store}/${key}.lock" "${home}"

# Debian and Ubuntu split ensurepip off: without root, pip's own wheel comes out of the package python3-pip-whl.
pip_from_apt() {
    local box=${home}/pip wheel
    command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 || return 1
    mkdir -p "${box}"
    bash "${tools_dir}/apt_fetch.sh" python3-pip-whl "${box}" || return 1
    wheel=$(find "${box}" -name 'pip-*.whl' | head -n 1)
    [ -n "${wheel}" ] && "${venv}/bin/python" "${wheel}/pip" install -q --no-index "${wheel}" || return 1
    rm -rf -- "${box}"
}

build() {
    local free quiet=-q
    free=$(df -Pk "${env_store}" | awk 'NR == 2 { print int($4 / 1048576) }')
    [ "${free}" -ge "${need_gb}" ] || die "${env_store} has ${free} GB free; the environment needs ${need_gb}" \
        "make room, or set ESPNET_BLORA_ENV_CACHE to a folder on another disk"
    rm -rf -- "${home}"
    mkdir -p "${home}"
    remove_on_exit "${home}"
    say "building the Python environment with ${python} ($(grep -c '==' "${lock}") packages, about 3 GB to fetch: 2 to 10 minutes)"
    if "${python}" -c "import ensurepip" 2>/dev/null; then
        "${python}" -m venv "${venv}"
    else
        "${python}" -m venv --without-pip "${venv}"
        pip_from_apt || die "${python} has no ensurepip and pip could not be fetched with apt-get" \
            "install it: apt-get install python3-venv (as root)" "or use another Python: make env PYTHON=/path/to/python3.12"
    fi
    [ -t 2 ] && quiet=--progress-bar=on
    "${venv}/bin/python" -m pip install ${quiet} --no-input --disable-pip-version-check --no-deps -r "${lock}" >&2 ||
        die "pip could not install tools/requirements.lock (its message is above); nothing was kept" \
            "network: pip's own settings (PIP_INDEX_URL, PIP_PROXY, PIP_CERT) are honoured" \
            "then run make env again: what was already fetched is in pip's cache"
    # There is no editdistance wheel for 3.13; a compiler must not be a condition of the set-up.
    if ! "${venv}/bin/python" -c "import editdistance" 2>/dev/null; then
        cp -- "${shim}" "$("${venv}/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/"
    fi
    "${venv}/bin/python" -m pip check >&2 || die "the installed packages do not fit each other (see above)" "please report it with the lines above"
    "${venv}/bin/python" -c "import editdistance, torch, torchaudio, whisper, espnet2.tasks.asr" ||
        die "the new environment does not import (see above); nothing was kept" "a missing system library is named in the last line"
    printf '%s\n' "${want}" >"${venv}/.complete"
    keep_it
}

if ! usable "${venv}"; then
    build
fi
case ${env_store} in
"${tools_dir}"/.envs)
    point "${link}" ".envs/${key}/venv"
    for other in "${env_store}"/py*-*-*/; do # the store inside the checkout keeps the current one only
        [ "${other%/}" = "${home}" ] || rm -rf -- "${other}" "${other%/}.lock"
    done
    ;;
*) point "${link}" "${venv}" ;;
esac
say "environment ready: tools/venv -> $(readlink "${link}")"
