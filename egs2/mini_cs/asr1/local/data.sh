#!/usr/bin/env bash
# Stage 1: make a corpus (16 kHz mono WAV, no pipes) and its data directories, and check them.
#   local/data.sh [--corpus_dir DIR] [--corpus_scale SHARE] [--nj N] [--corpus NAME]
set -euo pipefail

corpus=mini_cs   # which, of those that make_corpus.py knows
corpus_dir=      # the audio goes here: about 150 MB of mini_cs in full, 300 MB of another; default: downloads/CORPUS
corpus_scale=1.0 # share of every set to make, in (0, 1]
nj=2             # processes
log() {
    echo "$(date '+%Y-%m-%dT%H:%M:%S') (data.sh) $*"
}
. utils/parse_options.sh
. ./path.sh
corpus_dir=${corpus_dir:-downloads/${corpus}}
new=${corpus#mini_}
sets=("train_${new}" "valid_${new}" valid_en valid_zh "test_${new}" ret_en ret_zh)
[ "${corpus}" = mini_cs ] || sets+=(old_30s old_2min old_10min old_fast)

log "making the corpus: audio in ${corpus_dir}"
python3 "$(dirname "${BASH_SOURCE[0]}")/make_corpus.py" data --corpus "${corpus}" --sets "${sets[@]}" \
    --clips_dir "${corpus_dir}" --nj "${nj}" --scale "${corpus_scale}"
# No utterance here may be longer than Whisper's 30 s: stage 4 does not look at test sets.
python3 -m espnet_blora.bin.validate_data --max_seconds 30 "${sets[@]/#/data/}"
log "done"
