# Sourced by the set-up scripts: places, messages, checksums. Needs bash and coreutils, nothing else.

tools_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
repo_root=$(dirname "${tools_dir}")
# Where environments are built. Outside the checkout (CI, several checkouts) they are shared by fingerprint.
env_store=${ESPNET_BLORA_ENV_CACHE:-${tools_dir}/.envs}

say() { printf '[setup] %s\n' "$*" >&2; }

# die WHAT [REMEDY...]: one line that says what failed, one line per remedy, then stop.
die() {
    printf '[setup] error: %s\n' "$1" >&2
    shift
    local line
    for line in "$@"; do
        printf '[setup]        %s\n' "${line}" >&2
    done
    exit 1
}

sha256_of() { sha256sum -- "$1" | cut -d ' ' -f 1; }

# hold FILE WHAT: take an exclusive lock for the rest of this process, saying so if we have to wait.
hold() {
    command -v flock >/dev/null 2>&1 || return 0
    exec 9>"$1" || die "cannot write $1" "make its folder writable"
    if ! flock -n 9; then
        say "another set-up is busy with $2; waiting for it"
        flock 9
    fi
}

# remove_on_exit PATH: whatever ends this process, PATH goes, unless keep_it is called first.
remove_on_exit() {
    doomed=$1
    trap 'rm -rf -- "${doomed}"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP
}
keep_it() { trap - EXIT INT TERM HUP; }

# replace PATH NEW: put the finished NEW (folder or link) where PATH is; PATH is never half of either.
replace() {
    local old="$1.old.$$"
    if [ -d "$1" ] && [ ! -L "$1" ]; then
        mv -T -- "$1" "${old}"
    fi
    mv -T -- "$2" "$1"
    rm -rf -- "${old}"
}

# point PATH TARGET: make PATH a link to TARGET.
point() {
    ln -s -- "$2" "$1.new.$$"
    replace "$1" "$1.new.$$"
}
