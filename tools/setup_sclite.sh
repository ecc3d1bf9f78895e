#!/usr/bin/env bash
# Get sclite, NIST's scorer, without root: unpack Debian's package sctk into tools/sctk.
#
# sclite is a second opinion: without it, recipes run and its tables say "not scored". So a failure here is a
# message, not an error. After a failed try the next one is made by: tools/setup_sclite.sh --retry
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

target=${tools_dir}/sctk
tried=${tools_dir}/.sclite_missing

# works PROGRAM: it is sclite and it runs here (without arguments it prints its usage and returns 1).
works() {
    local usage
    usage=$("$1" 2>&1 </dev/null) || true
    [[ ${usage} == *"sclite Version"* ]]
}

[ "${1:-}" != --retry ] || rm -f -- "${tried}"
if [ -x "${target}/bin/sclite" ]; then
    exit 0
fi
while IFS= read -r path; do
    if works "${path}"; then
        exit 0
    fi
done < <(type -aP sclite || true)

if [ ! -e "${tried}" ]; then
    box=${tools_dir}/.sctk.$$
    mkdir "${box}"
    remove_on_exit "${box}"
    say "fetching sclite (Debian package sctk, unpacked without root)"
    if (bash "${tools_dir}/apt_fetch.sh" sctk "${box}") && works "${box}/usr/lib/sctk/bin/sclite"; then
        mkdir "${box}/sctk"
        mv -- "${box}/usr/lib/sctk/bin" "${box}/sctk/bin"
        mv -- "${box}/usr/share/doc/sctk/copyright" "${box}/sctk/copyright"
        replace "${target}" "${box}/sctk"
        say "sclite ready: tools/sctk/bin/sclite"
        exit 0
    fi
    : >"${tried}"
fi
say "sclite is not here: its tables will say 'not scored' (our own scores do not need it)"
say "  to get it: apt-get install sctk (as root), or put a sclite on PATH, or try again: make sclite"
