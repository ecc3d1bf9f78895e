#!/usr/bin/env bash
# Adapt Whisper to code-switched speech through ESPnet's stages 1-13, and score what it gained and forgot.
#   ./run.sh --adapter blora                              everything
#   ./run.sh --adapter lora --stage 11 --stop_stage 13    some stages
#   ./run.sh --adapter blora --set adapter_conf.beta=0.1 --set seed=1    with other settings
# `./run.sh --help` lists the options; any other option goes to asr.sh as it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

corpus_variable=MINI_CS # where the audio goes
corpus_default=downloads/mini_cs
data_options=corpus_scale # an option of local/data.sh alone
corpus_scale=1.0          # share of every set to make, in (0, 1]
train_set=train_cs
valid_set=valid_cs
test_sets=test_cs              # the new domain
retention_sets="ret_en ret_zh" # what the base model could do before; decoded and scored like test_sets
whisper=base/tiny_mini_cs.safetensors
audio_format=wav

. ./path.sh
. "$(python3 -m espnet_blora.bin.recipe run.sh)" "$@"
