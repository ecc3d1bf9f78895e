#!/usr/bin/env bash
# ArzEn (Egyptian Arabic-English): adapt Whisper through ESPnet's stages 1-13, and score what it gained and forgot.
#   ./run.sh --adapter blora                              everything; also none, lora, full
#   ./run.sh --adapter lora --stage 11 --stop_stage 13    some stages
#   ./run.sh --adapter blora --whisper small --set adapter_conf.beta=0.1    another size, other settings
# `./run.sh --help` lists the options; any other option goes to asr.sh as it is. README.md says what is needed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

corpus=arzen
corpus_variable=ARZEN # where it is: in the environment, local/db.local.sh or db.sh; or --corpus_dir
whisper=large-v3-turbo
train_set=train
valid_set=dev
test_sets="test" # the new domain
# what the base model could do before; those that are not at hand are left out, and that is said
retention_sets="mgb2_test commonvoice_ar_test fleurs_ar_eg_test librispeech_test_clean commonvoice_en_test"
score_mode=arabic # without vowel marks; beside it strictly, and with like letters as one

. ./path.sh
. "$(python3 -m espnet_blora.bin.recipe run.sh)" "$@"
