# shellcheck shell=bash
# Stage 1 of a recipe: its corpus, and the retention sets that this machine has, as Kaldi directories of 16 kHz mono audio.
#
# Sourced by local/data.sh after path.sh, with its arguments. local/data.sh sets before: corpus, sets (those of the
# corpus); and, where a run has one language, lang= and hours=, whose values are then part of the sets' names.
#   [--corpus_dir DIR] [--clips_dir DIR] [--nj N] [--retention_sets SET,SET] [--corpus_option KEY=VALUE,KEY=VALUE]
#   [--lang FOLDER --hours H] [--new_languages CODE,CODE] [--max_lost SHARE] [--join SECONDS]
corpus_dir=
clips_dir=downloads
nj=1
retention_sets=
corpus_option=
corpus_options= # the old name, for one more release
new_languages=
max_lost= # share of a set; by default that of the programs
join=     # seconds: training sets become <set>_join<seconds>, of their segments joined
# shellcheck disable=SC1091
. utils/parse_options.sh
log() {
    echo "$(date '+%Y-%m-%dT%H:%M:%S') (data.sh) $*"
}

if [ -n "${join}" ]; then
    read -ra names <<<"${sets}"
    sets=
    for name in "${names[@]}"; do
        if [[ ${name} = *train* ]]; then name+=_join${join}; fi
        sets+=" ${name}"
    done
fi
foreign=() # retention sets that are not the corpus's own
for name in ${retention_sets//,/ }; do
    [[ " ${sets} " == *" ${name} "* ]] || foreign+=("${name}")
done
if [ ${#foreign[@]} -gt 0 ]; then # hours before they are prepared
    python3 -m espnet_blora.bin.prepare_retention --check "${foreign[@]}"
fi

if [ -n "${corpus_options}" ]; then
    log "WARNING: --corpus_options is called --corpus_option now"
    corpus_option=${corpus_options}
fi
read_options=()
limit=()
[ -z "${max_lost}" ] || limit=(--max_lost "${max_lost}")
for option in ${corpus_option//,/ }; do read_options+=(--corpus_option "${option}"); done
# prepare_sets PREFIX "SETS": data/PREFIX<set>
prepared=()
prepare_sets() {
    local name
    log "${corpus}: $2${1:+ of ${lang}}"
    python3 -m espnet_blora.bin.prepare_corpus "${corpus}" --corpus_dir "${corpus_dir}" --sets "$2" --prefix "$1" \
        --data_dir data --clips_dir "${clips_dir}/${corpus}" --nj "${nj}" ${limit[@]+"${limit[@]}"} \
        ${read_options[@]+"${read_options[@]}"}
    for name in $2; do prepared+=("$1${name}"); done
}
if [ -z "${lang:-}" ]; then
    prepare_sets "" "${sets}"
else # the hours are those of the training set: dev and test are the same for all
    prepare_sets "${lang}_${hours}h_" train
    prepare_sets "${lang}_" "dev test"
fi
if [ ${#foreign[@]} -gt 0 ]; then
    log "retention sets: ${foreign[*]}"
    python3 -m espnet_blora.bin.prepare_retention "${foreign[@]}" \
        --data_dir data --clips_dir "${clips_dir}" --nj "${nj}" ${limit[@]+"${limit[@]}"}
fi
directories=()
for name in "${prepared[@]}" ${foreign[@]+"${foreign[@]}"}; do
    if [ -f "data/${name}/wav.scp" ]; then directories+=("data/${name}"); fi
done
python3 -m espnet_blora.bin.validate_data --mono_16k --new_languages "${new_languages}" "${directories[@]}"
log "done"
