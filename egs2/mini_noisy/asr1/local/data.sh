#!/usr/bin/env bash
# Stage 1: the corpus of this recipe, made by mini_cs's script; its options: --corpus_dir DIR, --corpus_scale SHARE, --nj N.
# The folder's name says which corpus, as mini_voices and mini_room call this script, too.
set -euo pipefail

bed=$(basename "$(dirname "${PWD}")")
new=${bed#mini_}
exec ../../mini_cs/asr1/local/data.sh --corpus "${bed}" \
    --sets "train_${new} valid_${new} test_${new} valid_en valid_zh ret_en ret_zh old_30s old_2min old_10min old_fast" "$@"
