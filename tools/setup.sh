#!/usr/bin/env bash
# Set everything up: Python environment, ESPnet's template, sclite. Safe to run again; done steps cost nothing.
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

for tool in awk flock perl sha256sum tar; do
    command -v "${tool}" >/dev/null 2>&1 || die "'${tool}' is not on PATH" "install the system package that has it"
done
hold "${tools_dir}/.setup.lock" "${tools_dir}"
bash "${tools_dir}/setup_env.sh" 9>&-
bash "${tools_dir}/setup_espnet.sh" 9>&-
bash "${tools_dir}/setup_sclite.sh" 9>&-
