#!/usr/bin/env bash
# Called by asr.sh in stage 13 after sclite; see espnet_blora/recipes/score.sh.
set -euo pipefail
. ./path.sh
. "$(python3 -m espnet_blora.bin.recipe score.sh)" "$@"
