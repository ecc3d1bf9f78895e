#!/usr/bin/env bash
# Stage 1: the corpus of this recipe, made by mini_cs's script; its options: --corpus_dir DIR, --corpus_scale SHARE, --nj N.
set -euo pipefail

exec ../../mini_cs/asr1/local/data.sh --corpus mini_noisy \
    --sets "train_noisy valid_noisy test_noisy valid_en valid_zh ret_en ret_zh old_30s old_2min old_10min old_fast" "$@"
