#!/usr/bin/env bash
# Unpack Debian/Ubuntu packages into a folder without root: tools/apt_fetch.sh PACKAGE... FOLDER
#
# apt checks the packages' signature chain. Where the system has no package lists (container images), they are
# fetched into a folder of our own.
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

packages=("${@:1:$#-1}")
folder=$(cd "${!#}" && pwd -P)
for tool in apt-get dpkg-deb; do
    command -v "${tool}" >/dev/null 2>&1 || die "${tool} is not here, so ${packages[*]} cannot be unpacked" "this way works on Debian and Ubuntu"
done

box=$(mktemp -d "${folder}/.apt.XXXXXX")
remove_on_exit "${box}"
chmod 755 "${box}"
mkdir -p "${box}/state/lists/partial" "${box}/cache/archives/partial"
options=(-q -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20 -o APT::Sandbox::User=)
own=(-o "Dir::State=${box}/state" -o Dir::State::status=/var/lib/dpkg/status -o "Dir::Cache=${box}/cache")

cd "${box}"
if ! timeout 120 apt-get "${options[@]}" download "${packages[@]}" >apt.log 2>&1; then
    if ! { timeout 180 apt-get "${options[@]}" "${own[@]}" update && timeout 120 apt-get "${options[@]}" "${own[@]}" download "${packages[@]}"; } >>apt.log 2>&1; then
        tail -n 5 apt.log >&2
        die "apt-get could not fetch ${packages[*]} (its last lines are above)"
    fi
fi
for package in "${packages[@]}"; do
    set -- "${package}"_*.deb
    [ -f "$1" ] || die "apt-get left no ${package}_*.deb"
    dpkg-deb -x "$1" "${folder}"
done
