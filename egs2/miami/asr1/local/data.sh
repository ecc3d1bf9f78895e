#!/usr/bin/env bash
# Stage 1: Bangor Miami and the retention sets that are at hand, as Kaldi directories of 16 kHz mono audio.
# Options: see espnet_blora/recipes/data.sh; run.sh gives them.
set -euo pipefail

corpus=miami
sets="train valid cs_test mono_test"
. ./path.sh
. "$(python3 -m espnet_blora.bin.recipe data.sh)" "$@"
