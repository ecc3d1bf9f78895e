#!/usr/bin/env bash
# A bed of another room: adapt mini_cs's base to echo and a microphone that clips, through ESPnet's stages 1-13.
#   ./run.sh --adapter lora                                everything
#   ./run.sh --adapter lora_keep --stage 11                a penalty on what it does to old audio (--keep)
#   ./run.sh --adapter lora --stage 12 --repair 0.2        a trained adapter, repaired
# `./run.sh --help` lists the options; any other option goes to asr.sh as it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

corpus_variable=MINI_ROOM # where the audio goes
corpus_default=downloads/mini_room
data_options=corpus_scale # an option of local/data.sh alone
corpus_scale=1.0          # share of every set to make, in (0, 1]
train_set=train_room
valid_set=valid_room
test_sets=test_room            # the new domain
retention_sets="ret_en ret_zh" # what the base model could do before; decoded and scored like test_sets
keep=old_10min                 # unlabelled old audio, for what uses it
conf_behind=../../mini_cs/asr1/conf
whisper=../../mini_cs/asr1/base/tiny_mini_cs.safetensors
audio_format=wav

. ./path.sh
. "$(python3 -m espnet_blora.bin.recipe run.sh)" "$@"
