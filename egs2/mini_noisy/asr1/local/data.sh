#!/usr/bin/env bash
# Stage 1: make the corpus (16 kHz mono WAV, no pipes) and its data directories, and check them.
#   local/data.sh [--corpus_dir DIR] [--corpus_scale SHARE] [--nj N]
set -euo pipefail

corpus_dir=downloads/mini_noisy # the audio goes here: about 300 MB in full
corpus_scale=1.0                # share of every set to make, in (0, 1]
nj=2                            # processes
log() {
    echo "$(date '+%Y-%m-%dT%H:%M:%S') (data.sh) $*"
}
. utils/parse_options.sh
. ./path.sh

log "making the corpus: audio in ${corpus_dir}"
python3 ../../mini_cs/asr1/local/make_corpus.py data --corpus mini_noisy --clips_dir "${corpus_dir}" --nj "${nj}" \
    --scale "${corpus_scale}"
# No utterance here may be longer than Whisper's 30 s: stage 4 does not look at test sets.
python3 -m espnet_blora.bin.validate_data --max_seconds 30 data/{train,valid,test}_noisy data/{valid,ret}_{en,zh} \
    data/old_{30s,2min,10min,fast}
log "done"
