#!/usr/bin/env bash
# Style, shell scripts, imports, types and file sizes of everything git tracks or would track. Run by: make lint
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

# files of git that are not links, with a NUL behind each
ours() {
    local file
    while IFS= read -r -d '' file; do
        if [ -f "${file}" ] && [ ! -L "${file}" ]; then printf '%s\0' "${file}"; fi
    done < <(git ls-files -z --cached --others --exclude-standard)
}

check_shell() {
    local file scripts=()
    while IFS= read -r -d '' file; do
        case ${file} in
        *.sh) ;;
        *) head -n 1 -- "${file}" | tr -d '\0' | grep -qE '^#!.*\b(ba)?sh\b' || continue ;;
        esac
        scripts+=("${file}")
    done < <(ours)
    shellcheck -- "${scripts[@]}"
}

# Nothing big enters the history, except the base model that the embedded recipe ships.
file_sizes() {
    local status=0 file limit size
    while IFS= read -r -d '' file; do
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
step "shellcheck" check_shell
step "imports" lint-imports --no-cache --no-logo
step "types" python3 tools/check_types.py
step "file sizes" file_sizes
if [ "${failed}" -ne 0 ]; then
    echo "[lint] not clean; 'make format' mends what can be mended by itself"
    exit 1
fi
echo "[lint] clean"
