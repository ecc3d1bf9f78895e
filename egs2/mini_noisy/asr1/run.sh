#!/usr/bin/env bash
# A bed far from what the base knows: adapt mini_cs's base to few words, spoken fast in noise, through ESPnet's stages 1-13.
#   ./run.sh --adapter lora                                everything
#   ./run.sh --adapter lora_keep --stage 11                a penalty on what it does to old audio (--keep)
#   ./run.sh --adapter lora --stage 12 --repair 0.2        a trained adapter, repaired
# `./run.sh --help` lists the options; any other option goes to asr.sh as it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

bed=noisy
conf_behind="conf/bed ../../mini_cs/asr1/conf"
whisper=../../mini_cs/asr1/base/tiny_mini_cs.safetensors

. ./local/bed.sh
. ./path.sh
. "$(python3 -m espnet_blora.bin.recipe run.sh)" "$@"
