# shellcheck shell=bash disable=SC2034
# Settings that the beds share (mini_noisy, mini_voices, mini_room); sourced by their run.sh, which sets bed.
corpus_variable=MINI_${bed^^} # where the audio goes
corpus_default=downloads/mini_${bed}
data_options=corpus_scale # an option of local/data.sh alone
corpus_scale=1.0          # share of every set to make, in (0, 1]
train_set=train_${bed}
valid_set=valid_${bed}
test_sets=test_${bed}          # the new domain
retention_sets="ret_en ret_zh" # what the base model could do before; decoded and scored like test_sets
keep=old_10min                 # unlabelled old audio, for what uses it
audio_format=wav
