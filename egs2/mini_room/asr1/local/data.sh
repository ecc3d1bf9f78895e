#!/usr/bin/env bash
# Stage 1: as mini_noisy's, which takes the recipe's name from its folder.
exec ../../mini_noisy/asr1/local/data.sh "$@"
