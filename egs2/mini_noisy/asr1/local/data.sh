#!/usr/bin/env bash
# Stage 1: the corpus of this recipe, made by mini_cs's script; its options: --corpus_dir DIR, --corpus_scale SHARE, --nj N.
exec ../../mini_cs/asr1/local/data.sh --corpus mini_noisy "$@"
