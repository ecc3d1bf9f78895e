#!/usr/bin/env bash
# FLEURS, one language that Whisper knows little of or lacks (DAMA's ten): adapt Whisper through ESPnet's stages 1-13, and
# score what it gained there and forgot of English.
#   ./run.sh --lang lg_ug --adapter dama                   everything; also none, lora_decoder, blora, full, ...
#   ./run.sh --lang cy_gb --hours 0.5 --adapter blora      half an hour of training data
#   ./run.sh --lang or_in --adapter dama --stage 11        some stages
# `./run.sh --help` lists the options; any other option goes to asr.sh as it is. README.md says what is needed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

corpus=fleurs
corpus_variable=FLEURS # where it is: in the environment, local/db.local.sh or db.sh; or --corpus_dir
whisper=large-v2
data_options="lang hours"
lang=                  # folder of a language
hours=10               # of training data at most; the paper's: 10
seen="hi_in cy_gb be_by fa_ir sw_ke"   # languages of the paper that Whisper has
unseen="lg_ug ckb_iq ast_es ceb_ph or_in" # and those that get a token of their own
language_option=lang
train_set=train # named by language and hours: lg_ug_10h_train, lg_ug_dev, lg_ug_test
valid_set=dev
test_sets="test" # the new domain
language_conf="test_hours=1 max_seconds=30"
# what the base model could do before; those that are not at hand are left out, and that is said
retention_sets="commonvoice_en_test fleurs_en_us_test librispeech_test_clean"

. ./path.sh
. "$(python3 -m espnet_blora.bin.recipe run.sh)" "$@"
