#!/usr/bin/env bash
# Style, shell syntax and file sizes of everything git tracks or would track. Run by: make lint
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

failed=0
step() { # step NAME COMMAND...: run it, go on, remember a failure
    printf '[lint] %s\n' "$1"
    "${@:2}" || {
        printf '[lint] failed: %s\n' "$1"
        failed=1
    }
}

ours() { git ls-files -z --cached --others --exclude-standard -- "$@"; }

shell_syntax() {
    local status=0 file
    while IFS= read -r -d '' file; do
        [ -L "${file}" ] || [ ! -f "${file}" ] && continue
        case ${file} in
        *.sh) ;;
        *) head -n 1 -- "${file}" 2>/dev/null | tr -d '\0' | grep -qE '^#!.*\b(ba)?sh\b' || continue ;;
        esac
        bash -n -- "${file}" || status=1
    done < <(ours)
    return "${status}"
}

# Nothing big enters the history, except the base model that the embedded recipe ships.
file_sizes() {
    local status=0 file limit size
    while IFS= read -r -d '' file; do
        [ -L "${file}" ] || [ ! -f "${file}" ] && continue
        limit=$((2 * 1024 * 1024))
        case ${file} in
        egs2/mini_cs/asr1/base/*.safetensors) limit=$((16 * 1024 * 1024)) ;;
        esac
        size=$(stat -c %s -- "${file}")
        if [ "${size}" -gt "${limit}" ]; then
            echo "${file}: ${size} bytes; allowed: ${limit}"
            status=1
        fi
    done < <(ours)
    return "${status}"
}

step "ruff check" python3 -m ruff check .
step "ruff format" python3 -m ruff format --check .
step "shell syntax" shell_syntax
step "file sizes" file_sizes
if [ "${failed}" -ne 0 ]; then
    echo "[lint] not clean; 'make format' mends what can be mended by itself"
    exit 1
fi
echo "[lint] clean"
