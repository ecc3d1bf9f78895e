#!/usr/bin/env bash
# Stage 1: the code-switched part of Fisher Spanish and the retention sets that are at hand, as Kaldi directories of 16 kHz mono audio.
# Options: see espnet_blora/recipes/data.sh; run.sh gives them.
set -euo pipefail

corpus=fisher
sets="cs_train mono_train_lid cs_valid cs_eval mono_eval"
. ./path.sh
. "$(python3 -m espnet_blora.bin.recipe data.sh)" "$@"

# As the authors of BLoRA train: code-switched utterances and about as many monolingual ones.
joined=${join:+_join${join}}
utils/combine_data.sh "data/train${joined}" "data/cs_train${joined}" "data/mono_train_lid${joined}"
python3 -m espnet_blora.bin.validate_data --mono_16k "data/train${joined}"
