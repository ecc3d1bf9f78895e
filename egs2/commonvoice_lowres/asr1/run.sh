#!/usr/bin/env bash
# Common Voice, one language that Whisper lacks (CL-MASR's ten): adapt Whisper through ESPnet's stages 1-13, and score what it
# gained there and forgot of English.
#   ./run.sh --lang rw --adapter dama                      everything; also none, lora_decoder, blora, full, ...
#   ./run.sh --lang rw --hours 0.5 --adapter blora         half an hour of training data
#   ./run.sh --lang kab --adapter dama --stage 11          some stages
# `./run.sh --help` lists the options; any other option goes to asr.sh as it is. README.md says what is needed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

corpus=commonvoice
corpus_variable=COMMONVOICE # where it is: in the environment, local/db.local.sh or db.sh; or --corpus_dir
whisper=large-v2
data_options="lang hours"
lang=                       # folder of a language in the release
hours=10                    # of training data; the paper's: 10, 2, 1, 0.5
seen=                       # languages of the paper that Whisper has
unseen="rw eo kab lg mhr ckb ab kmr fy-NL ia" # and those that get a token of their own
language_option="locale"
train_set=train # named by language and hours: rw_10h_train, rw_dev, rw_test
valid_set=dev
test_sets="test" # the new domain
language_conf="subset=cl_masr max_seconds=10"
# what the base model could do before; those that are not at hand are left out, and that is said
retention_sets="commonvoice_en_test fleurs_en_us_test librispeech_test_clean"

. ./path.sh
. "$(python3 -m espnet_blora.bin.recipe run.sh)" "$@"
