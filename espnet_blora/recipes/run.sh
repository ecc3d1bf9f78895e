# shellcheck shell=bash
# What every recipe's run.sh does: ESPnet's stages 1-13 with one adapter, on sets of the new domain and on retention sets.
#
# Sourced by a recipe's run.sh, in the recipe's folder, after its path.sh, with its arguments. The recipe sets before:
#   corpus             name of the reader (espnet_blora/data/corpora), or empty: local/data.sh makes the data by itself
#   corpus_variable    the variable that says where the corpus is: SEAME
#   corpus_default     folder if nobody says (optional)
#   train_set valid_set test_sets retention_sets
#   whisper            base model
#   data_options       more options of local/data.sh that run.sh takes, with --set_NAME as variables (optional)
#   language_option    the corpus's option that names a language, where one language is run at a time (language.sh; optional)
#   audio_format max_wav_duration score_opts score_mode
recipes=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source=espnet_blora/recipes/options.sh
. "${recipes}/options.sh"
read_options "$@"
if [ -n "${language_option:-}" ]; then
    # shellcheck source=espnet_blora/recipes/language.sh
    . "${recipes}/language.sh"
    choose_language
fi
check_options

# shellcheck disable=SC1091
. ./cmd.sh
# shellcheck source=espnet_blora/recipes/machine.sh
. "${recipes}/machine.sh"
find_corpora
use_machine
# shellcheck source=espnet_blora/recipes/stages.sh
. "${recipes}/stages.sh"
name_experiment
check_trained

# ---- the base model: a published size is fetched once, before jobs race for it ----
if [ ! -f "${whisper}" ] && [ "${stage}" -le 12 ] && [ "${stop_stage}" -ge 5 ]; then
    call python3 -m espnet_blora.bin.fetch_whisper "${whisper}" || die "--whisper ${whisper} cannot be had, see above"
fi

# ---- configurations: the recipe's, with each --set ----
call mkdir -p "${asr_exp}"
if [ "${stage}" -le 11 ] && [ "${stop_stage}" -ge 10 ]; then
    call python3 -m espnet_blora.bin.make_config --output "${asr_exp}/train.yaml" \
        "$(config train.yaml)" "$(config "adapter_${adapter}.yaml")" "${settings[@]}"
fi
if [ "${stop_stage}" -ge 12 ]; then
    call python3 -m espnet_blora.bin.make_config --output "${asr_exp}/${inference_tag}.yaml" \
        "${inference_config:-$(config decode.yaml)}"
fi

# ---- data, tokens, statistics: shared by all adapters, so one run at a time ----
if [ "${stage}" -le 10 ]; then
    lock data/.prepare.lock
    first=1
    if [ -n "${corpus}" ]; then # not in one line with &&, which would let a failure pass
        run_stages 1 1
        first=2
    fi
    leave_out_absent_sets
    if [ "${stage}" -gt 1 ] && [ "${stage}" -le 4 ]; then check_data; fi # stage 1 checks what it makes
    run_stages "${first}" 4
    if [ "${stage}" -le 4 ] && [ "${stop_stage}" -ge 4 ]; then call list_dropped; fi
    run_stages 5 9
    if [ "${adapter}" != none ]; then run_stages 10 10; fi
    unlock
else
    leave_out_absent_sets
fi

# ---- training: one process has the machine unless it has a GPU ----
if [ "${stage}" -le 11 ] && [ "${stop_stage}" -ge 11 ]; then
    if [ "${adapter}" = none ]; then
        log "no adapter: ${asr_exp} gets the base model"
        call python3 -m espnet_blora.bin.base_model --config "${asr_exp}/train.yaml" --whisper "${whisper}" \
            --token_list "${token_list}" --output_dir "${asr_exp}"
    else
        if keeps_in_training && [ -n "${keep}" ]; then collect_kept moments; fi
        if retains_in_training && [ -n "${keep}" ]; then collect_kept said; fi
        if [ "${ngpu}" -gt 0 ]; then # which batch_size fits on which GPU
            call python3 -m espnet_blora.bin.memory --whisper "${whisper}" --config "${asr_exp}/train.yaml" ||
                log "the memory of this training is not known, see above"
        fi
        if [ "${ngpu}" -eq 0 ]; then export ESPNET_BLORA_THREADS=${ESPNET_BLORA_THREADS:-${cores}}; fi
        run_stages 11 11
        unset ESPNET_BLORA_THREADS
    fi
fi

# ---- decoding, scoring; packing and upload if asked for ----
repair_adapter
run_stages 12 12
score_sets
run_stages 14 100
[ -n "${dry_run}" ] || log "done: ${asr_exp}"
