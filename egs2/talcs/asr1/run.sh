#!/usr/bin/env bash
# TALCS (Mandarin-English, lessons): adapt Whisper through ESPnet's stages 1-13, and score what it gained and forgot.
#   ./run.sh --adapter blora                              everything; also none, lora, full
#   ./run.sh --adapter lora --stage 11 --stop_stage 13    some stages
#   ./run.sh --adapter blora --whisper small --set adapter_conf.beta=0.1    another size, other settings
# `./run.sh --help` lists the options; any other option goes to asr.sh as it is. README.md says what is needed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

corpus=talcs
corpus_variable=TALCS # where it is: in the environment, local/db.local.sh or db.sh; or --corpus_dir
whisper=large-v3-turbo
train_set=train
valid_set=dev
test_sets="test" # the new domain
# what the base model could do before; those that are not at hand are left out, and that is said
retention_sets="librispeech_test_clean aishell_test commonvoice_en_test commonvoice_zh-CN_test fleurs_en_us_test fleurs_cmn_hans_cn_test"
score_mode=mandarin # traditional characters as simplified ones

. ./path.sh
. "$(python3 -m espnet_blora.bin.recipe run.sh)" "$@"
