#!/usr/bin/env bash
# Stage 1 of the smallest recipe with human speech: the recordings that ESPnet's source distribution carries.
#   local/data.sh [--corpus_dir DIR] [--corpus_scale IGNORED] [--nj IGNORED]
set -euo pipefail

corpus_dir=downloads
corpus_scale=1.0
nj=1
. utils/parse_options.sh
. ./path.sh

archive=$(cd ../../TEMPLATE && pwd -P)/../mini_an4/asr1/downloads.tar.gz
mkdir -p "${corpus_dir}"
tar -xzf "${archive}" -C "${corpus_dir}" --strip-components=1 --no-same-owner
python3 local/prepare.py "${corpus_dir}" data
python3 -m espnet_blora.bin.validate_data --max_seconds 30 data/train data/dev data/test
