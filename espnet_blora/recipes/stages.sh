# shellcheck shell=bash
# Running asr.sh's stages, and what stands around them.

# base_tag FILE_OR_SIZE: its name without folder and ending
base_tag() {
    local name
    name=$(basename "$1")
    name=${name%.safetensors}
    echo "${name%.pt}"
}

# name_experiment: asr_exp, inference_tag, and the settings that training gets (settings)
name_experiment() {
    local override
    settings=()
    # the tiny base reads utterances padded to their batch as well, every other Whisper knows its window of 30 s alone
    if [ "$(base_tag "${whisper}")" = tiny_mini_cs ]; then
        settings+=(--set encoder_conf.pad_to=batch)
    else
        settings+=(--set encoder_conf.pad_to=30s)
    fi
    if [ "${ngpu}" -eq 0 ]; then settings+=(--set use_amp=false); fi # half precision is for GPUs
    kept=${expdir}/keep_$(base_tag "${whisper}")${part:+_${part}}/$(tr ' /' '+_' <<<"${keep}")
    if [ -n "${keep}" ]; then
        if keeps_in_training; then settings+=(--set "adapter_conf.keep_file=${kept}.moments"); fi
        if retains_in_training; then settings+=(--set "retain.data=${kept}.said"); fi
    fi
    if [ -z "${tag}" ]; then
        [ "$(base_tag "${whisper}")" = "$(base_tag "${recipe_whisper}")" ] ||
            tag=$(tr -c 'A-Za-z0-9.\n-' '_' <<<"$(base_tag "${whisper}")")
        for override in ${overrides[@]+"${overrides[@]}"}; do
            tag+="${tag:+_}$(tr -c 'A-Za-z0-9.\n-' '_' <<<"${override##*adapter_conf.}")"
        done
    fi
    for override in ${overrides[@]+"${overrides[@]}"}; do settings+=(--set "${override}"); done
    part+=${join:+${part:+_}join${join}}
    tag=${part}${part:+${tag:+_}}${tag}
    asr_exp=${expdir}/asr_${adapter}${tag:+_${tag}}
    token_list=data/${new_languages:+${new_languages// /-}_}token_list/whisper_multilingual/tokens.txt # as in asr.sh
    inference_tag=${inference_tag:-decode${adapter_scale:+_scale${adapter_scale}}${repair:+_repair${repair}}}
    choose_sets
}

# choose_sets: eval_sets (all that are decoded) and scored_sets (where asr.sh puts them: a validation set that is tested
# too lies in org/, where stage 4 has dropped nothing)
choose_sets() {
    local dset
    eval_sets=("${new_sets[@]}" ${kept_sets[@]+"${kept_sets[@]}"})
    scored_sets=()
    for dset in "${eval_sets[@]}"; do
        [ "${dset}" != "${valid_set}" ] || dset=org/${dset}
        scored_sets+=("${dset}")
    done
    if [ "$(rest_value eval_valid_set false)" = true ] && [[ " ${scored_sets[*]} " != *" org/${valid_set} "* ]]; then
        scored_sets=("org/${valid_set}" "${scored_sets[@]}")
    fi
}

# leave_out_absent_sets: retention sets that the recipe names and nobody has are left out, and that is said
leave_out_absent_sets() {
    local dset here=() gone=()
    [ -n "${corpus}" ] && [ "${stop_stage}" -ge 2 ] && [ ${#kept_sets[@]} -gt 0 ] || return 0
    [ -z "${dry_run}" ] || [ "${stage}" -gt 1 ] || return 0 # stage 1, which finds them, does not run
    for dset in "${kept_sets[@]}"; do
        if [ -f "data/${dset}/wav.scp" ] || [ -f "${dumpdir}/raw/${dset}/wav.scp" ] || [ "${dset}" = "${valid_set}" ]; then
            here+=("${dset}")
        else
            gone+=("${dset}")
        fi
    done
    [ ${#gone[@]} -gt 0 ] || return 0
    [ -z "${own_retention}" ] || die "--retention_sets: there is no data/${gone[0]} (run stage 1, or see README.md)"
    log "retention sets left out, for their corpora are not at hand (README.md says how to add them): ${gone[*]}"
    [ ${#here[@]} -gt 0 ] || log "no retention set is left: what is forgotten will not be measured"
    kept_sets=(${here[@]+"${here[@]}"})
    choose_sets
}

# run_stages FIRST LAST [asr.sh options]: those of FIRST..LAST that were asked for
run_stages() {
    local first=$1 last=$2 launcher="python3 -m espnet_blora.run --whisper ${whisper}" data_opts name vocabulary=noinfo
    shift 2
    first=$((first > stage ? first : stage))
    last=$((last < stop_stage ? last : stop_stage))
    [ "${first}" -le "${last}" ] || return 0
    if [ -n "${new_languages}" ]; then
        launcher+=" --new-languages ${new_languages// /,}"
        vocabulary=${new_languages// /-} # a place of its own for the token list, which is all that --lang does here
    fi
    if [ "${first}" -ge 12 ] && [ -n "${adapter_scale}" ]; then launcher+=" --adapter-scale ${adapter_scale}"; fi
    if [ "${first}" -ge 12 ] && [ "${search}" = espnet ]; then launcher+=" --search ${search}"; fi
    data_opts="--corpus_dir ${corpus_dir} --nj ${nj}"
    if [ -n "${corpus}" ]; then
        data_opts+=" --clips_dir ${clips_dir}${max_lost:+ --max_lost ${max_lost}}"
        [ ${#kept_sets[@]} -eq 0 ] || data_opts+=" --retention_sets $(IFS=, && echo "${kept_sets[*]}")"
        [ -z "${join}" ] || data_opts+=" --join ${join}"
        [ -z "${new_languages}" ] || data_opts+=" --new_languages ${new_languages// /,}"
        [ ${#corpus_options[@]} -eq 0 ] || data_opts+=" --corpus_option $(IFS=, && echo "${corpus_options[*]}")"
    fi
    for name in ${data_options[@]+"${data_options[@]}"}; do data_opts+=" --${name} ${!name}"; done
    call ./asr.sh \
        --stage "${first}" --stop_stage "${last}" \
        --python "${launcher}" \
        --nj "${nj}" --inference_nj "${inference_nj}" --ngpu "${ngpu}" --gpu_inference "${gpu_inference}" \
        --expdir "${expdir}" --dumpdir "${dumpdir}" \
        --local_data_opts "${data_opts}" \
        --train_set "${train_set}" --valid_set "${valid_set}" --test_sets "${eval_sets[*]}" \
        --audio_format "${audio_format}" --max_wav_duration "${max_wav_duration}" \
        --lang "${vocabulary}" --token_type whisper_multilingual --cleaner none --feats_normalize "" --use_lm false \
        --asr_config "${asr_exp}/train.yaml" --asr_exp "${asr_exp}" --asr_stats_dir "${expdir}/asr_stats${part:+_${part}}" \
        --inference_config "${asr_exp}/${inference_tag}.yaml" --inference_tag "${inference_tag}" \
        --inference_asr_model "${inference_asr_model}" --batch_size 16 \
        ${rest[@]+"${rest[@]}"} "$@"
}

# lock FILE: hold it until this script ends or unlocks, waiting for another run that has it
lock() {
    [ -z "${dry_run}" ] || return 0
    mkdir -p "$(dirname "$1")"
    exec 9>"$1"
    if ! command -v flock >/dev/null; then
        log "no flock here: do not start two runs at once"
    elif ! flock -n 9; then
        log "waiting for another run that prepares the data (it holds $1)"
        flock 9
    fi
}
unlock() {
    exec 9>&-
}

# list_dropped: say which utterances stage 4 took out, which it does without a word
list_dropped() {
    local dset file
    for dset in "${train_set}" "${valid_set}"; do
        file=${dumpdir}/raw/${dset}/dropped
        [ -f "${dumpdir}/raw/${dset}/text" ] || continue
        LC_ALL=C comm -23 <(cut -d' ' -f1 "${dumpdir}/raw/org/${dset}/wav.scp" | LC_ALL=C sort) \
            <(cut -d' ' -f1 "${dumpdir}/raw/${dset}/wav.scp" | LC_ALL=C sort) >"${file}"
        if [ -s "${file}" ]; then
            log "stage 4 dropped $(wc -l <"${file}") utterances of ${dset} (too short, too long, without text):" \
                "$(head -n 10 "${file}" | paste -sd' ') ... all are in ${file}"
        fi
    done
}

# check_data: refuse data directories that were not made by stage 1 and have mistakes, before anything is made of them.
# Stage 4 leaves out what is too long for training, and list_dropped says so; stage 12 decodes it piece by piece.
check_data() {
    local dset dirs
    [ "${stop_stage}" -ge 3 ] || return 0
    dirs=("data/${train_set}" "data/${valid_set}")
    for dset in "${eval_sets[@]}"; do [ "${dset}" = "${valid_set}" ] || dirs+=("data/${dset}"); done
    call python3 -m espnet_blora.bin.validate_data --mono_16k --new_languages "${new_languages}" "${dirs[@]}" || die "the data cannot be used, see above"
}

# choose_sclite_options: -c NOASCII makes each character outside ASCII a word of its own: right for Han and Kana,
# wrong for an accent
choose_sclite_options() {
    local dset others
    others=$(for dset in "${scored_sets[@]}"; do
        if [ -f "${dumpdir}/raw/${dset}/utt2lang" ]; then cut -d' ' -f2 "${dumpdir}/raw/${dset}/utt2lang"; fi
    done | sort -u | grep -vxE 'zh|yue|ja|en' | paste -sd' ' || true)
    if [ -n "${others}" ] && [ "${score_opts}" = "-e utf-8 -c NOASCII" ]; then
        score_opts="-e utf-8"
        log "sclite's WER takes words at blanks, because there are sets in ${others}; the mixed error rate is our score's"
    fi
}

# score_sets: stage 13. It is ours, in the place of asr.sh's, and leaves the same files: one process for all sets
score_sets() {
    local options=() status=0
    [ "${stage}" -le 13 ] && [ "${stop_stage}" -ge 13 ] || return 0
    [[ " $(rest_value skip_stages "") " != *" 13 "* && $(rest_value skip_eval false) = false ]] || return 0
    choose_sclite_options
    [ -z "${score_mode}" ] || options+=(--mode "${score_mode}")
    call python3 -m espnet_blora.bin.score_experiment --asr_exp "${asr_exp}" --inference_tag "${inference_tag}" \
        --dump "${dumpdir}/raw" --sets "${scored_sets[@]}" --score_opts="${score_opts}" \
        --nlsyms_txt "$(rest_value nlsyms_txt none)" ${options[@]+"${options[@]}"} || status=$?
    if [ -z "${dry_run}" ]; then
        scripts/utils/show_asr_result.sh "${asr_exp}" | tee "${asr_exp}/RESULTS.md"
        # which of the scored sets are the new domain, for the report
        [ ! -d "${asr_exp}/${inference_tag}" ] || printf '%s\n' "${new_sets[@]}" >"${asr_exp}/${inference_tag}/test_sets"
    fi
    return "${status}"
}

# languages_known: codes of the training and retention sets that the base knows, with blanks between
languages_known() {
    local dset
    for dset in "${train_set}" ${kept_sets[@]+"${kept_sets[@]}"}; do
        if [ -f "data/${dset}/utt2lang" ]; then cut -d' ' -f2 "data/${dset}/utt2lang"; fi
    done | LC_ALL=C sort -u | { grep -vxF "$(tr ' ' '\n' <<<"${new_languages:-none}")" || true; } | paste -sd' '
}

# collect_kept WHAT: make ${kept}.WHAT of the sets of --keep, once for all adapters
#   moments: what the base's layers are given
#   said: a data directory of what the base transcribes
collect_kept() {
    local what=$1 folder=${kept%/*} dset device=cpu sources=() program
    for dset in ${keep}; do
        case ${dset} in
        synthetic) sources+=(--speak "$(languages_known)") ;;
        */*) sources+=("${dset}") ;;
        *) sources+=("data/${dset}") ;;
        esac
    done
    [ "${ngpu}" -eq 0 ] || device=cuda
    program=moments
    if [ "${what}" = said ]; then
        [ ! -f "${kept}.said/wav.scp" ] || return 0 # written last
        [[ " ${keep} " != *" synthetic "* ]] || die "--keep synthetic: retain: needs recordings; --set retain=null does without"
        program=pseudo_label
    fi
    call mkdir -p "${folder}"
    [ -f "${folder}/config.yaml" ] || call python3 -m espnet_blora.bin.base_model --config "${asr_exp}/train.yaml" \
        --whisper "${whisper}" --token_list "${token_list}" --output_dir "${folder}"
    call python3 -m "espnet_blora.bin.${program}" "${sources[@]}" --asr_exp "${folder}" --whisper "${whisper}" \
        --device "${device}" --output "${kept}.${what}"
}

# check_trained: what is repaired without training here must have been trained
check_trained() {
    [ -n "${repair}" ] && [ "${stage}" -ge 12 ] && [ -z "${dry_run}" ] || return 0
    [ -f "${asr_exp}/config.yaml" ] || die "--repair ${repair}: there is no ${asr_exp}/config.yaml: train it first (--stage 11)"
}

# repair_adapter: the checkpoint of --repair, in the place of the trained one
repair_adapter() {
    local device=cpu
    [ -n "${repair}" ] && [ "${stage}" -le 12 ] && [ "${stop_stage}" -ge 12 ] || return 0
    [ "${ngpu}" -eq 0 ] || device=cuda
    collect_kept moments
    call rm -f "${asr_exp}/new.moments.sums" # of an adapter that may have been trained anew
    call python3 -m espnet_blora.bin.moments "${dumpdir}/raw/${train_set}" --adapted --utterances 300 \
        --asr_exp "${asr_exp}" --whisper "${whisper}" --device "${device}" --output "${asr_exp}/new.moments"
    call python3 -m espnet_blora.bin.repair --asr_exp "${asr_exp}" --whisper "${whisper}" --keep "${kept}.moments" \
        --new "${asr_exp}/new.moments" --strength "${repair}"
    inference_asr_model=repaired_mu${repair}.pth
}
