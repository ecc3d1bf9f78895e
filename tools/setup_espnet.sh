#!/usr/bin/env bash
# Put ESPnet's recipe template at tools/espnet: out of the pinned source distribution, or a link to a checkout.
#
#   tools/setup_espnet.sh                     fetch with pip, check its sha256 (tools/espnet.lock), unpack
#   ESPNET_ROOT=/path/to/espnet ...           link to this checkout (same version)
#   ESPNET_SDIST=/path/espnet-202611.tar.gz   take this file instead of fetching it (same sha256)
#
# The unpacked part is what recipes need: egs2/TEMPLATE, mini_an4's recordings, the licence; and tools, with which it is
# a checkout that recipes can be copied into (a test does).
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

target=${tools_dir}/espnet
pin=${tools_dir}/espnet.lock
version=$(sed -n 's/^espnet==\([0-9.a-z]*\).*/\1/p' "${pin}")
sum=$(sed -n 's/.*--hash=sha256:\([0-9a-f]*\).*/\1/p' "${pin}")

# check_version FOLDER: it is an ESPnet of our version, recipes included.
check_version() {
    local found
    [ -f "$1/egs2/TEMPLATE/asr1/asr.sh" ] || die "$1 is no ESPnet checkout: egs2/TEMPLATE/asr1/asr.sh is not there" "${@:2}"
    found=$(cat "$1/version.txt" 2>/dev/null || cat "$1/espnet/version.txt" 2>/dev/null || echo unknown)
    case ${found} in
    "${version}" | "${version}".post*) ;;
    *) die "$1 is ESPnet ${found}; needed: ${version} (recipe scripts only run with the package of their own release)" "${@:2}" ;;
    esac
}

if [ -n "${ESPNET_ROOT:-}" ]; then
    [ -d "${ESPNET_ROOT}" ] || die "ESPNET_ROOT=${ESPNET_ROOT} is not a folder" "unset ESPNET_ROOT to use the pinned source distribution"
    root=$(cd "${ESPNET_ROOT}" && pwd -P)
    if [ "${root}" != "$(cd "${target}" 2>/dev/null && pwd -P)" ]; then
        check_version "${root}" "check out its release ${version}, or unset ESPNET_ROOT to use the pinned source distribution"
        point "${target}" "${root}"
        say "ESPnet template: tools/espnet -> ${root}"
    fi
    exit 0
fi
if [ -L "${target}" ]; then
    check_version "${target}" "tools/espnet is a link to $(readlink "${target}"):" \
        "set ESPNET_ROOT to a checkout of ${version}, or rm tools/espnet to use the pinned source distribution"
    exit 0
fi
members=(LICENSE version.txt tools egs2/TEMPLATE egs2/mini_an4/asr1)
want="${sum} ${members[*]}"
[ "$(cat "${target}/.complete" 2>/dev/null)" = "${want}" ] && exit 0

box=${tools_dir}/.espnet.$$
mkdir "${box}"
remove_on_exit "${box}"
name=espnet-${version}.tar.gz
kept=${ESPNET_BLORA_ENV_CACHE:+${ESPNET_BLORA_ENV_CACHE}/${name}}
archive=${ESPNET_SDIST:-}
if [ -z "${archive}" ] && [ -n "${kept}" ] && [ "$(sha256_of "${kept}" 2>/dev/null)" = "${sum}" ]; then
    archive=${kept}
elif [ -z "${archive}" ]; then
    say "fetching ESPnet ${version}'s source distribution (36 MB)"
    "${tools_dir}/venv/bin/python" -m pip download -q --disable-pip-version-check --no-deps --no-build-isolation \
        --no-binary espnet --require-hashes -d "${box}" -r "${pin}" >&2 ||
        die "ESPnet ${version}'s source distribution could not be fetched (pip's message is above)" \
            "without network: set ESPNET_SDIST=/path/${name} or ESPNET_ROOT=/path/to/espnet, and run the same command again"
    archive=${box}/${name}
fi
[ -f "${archive}" ] || die "${archive} is not a file" "give ESPNET_SDIST the path of ${name}"
found=$(sha256_of "${archive}")
[ "${found}" = "${sum}" ] || die "${archive} has sha256 ${found}; pinned: ${sum}" "the file is damaged or another one: fetch it again"
if [ -n "${kept}" ] && [ "${archive}" != "${kept}" ]; then
    cp -- "${archive}" "${kept}.$$" && mv -T -- "${kept}.$$" "${kept}"
fi

mkdir "${box}/espnet"
tar -xzf "${archive}" -C "${box}/espnet" --strip-components=1 --no-same-owner "${members[@]/#/espnet-${version}/}" ||
    die "${archive} could not be unpacked (tar's message is above)" "is the disk full?"
check_version "${box}/espnet"
printf '%s\n' "${want}" >"${box}/espnet/.complete"
replace "${target}" "${box}/espnet"
say "ESPnet ${version}'s template ready: tools/espnet"
