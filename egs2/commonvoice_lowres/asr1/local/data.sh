#!/usr/bin/env bash
# Stage 1: Common Voice in one language and the retention sets that are at hand, as Kaldi directories of 16 kHz mono audio.
# Options: see espnet_blora/recipes/data.sh; run.sh gives them.
set -euo pipefail

corpus=commonvoice
sets="train dev test"
lang=
hours=
. ./path.sh
. "$(python3 -m espnet_blora.bin.recipe data.sh)" "$@"
