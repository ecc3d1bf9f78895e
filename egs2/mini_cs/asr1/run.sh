#!/usr/bin/env bash
# Adapt Whisper to code-switched speech through ESPnet's stages 1-13, and score what it gained and forgot.
#   ./run.sh --adapter blora                              everything
#   ./run.sh --adapter lora --stage 11 --stop_stage 13    some stages
#   ./run.sh --adapter blora --set adapter_conf.beta=0.1 --set seed=1    with other settings
# `./run.sh --help` lists the options; any other option goes to asr.sh as it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# ---- the corpus ----
train_set=train_cs
valid_set=valid_cs
test_sets=test_cs              # the new domain
retention_sets="ret_en ret_zh" # what the base model could do before; decoded and scored like test_sets

# ---- own options ----
adapter=blora # none lora blora full
tag=          # appended to the experiment's name; by default made of --set
whisper=base/tiny_mini_cs.safetensors
corpus_dir=     # where the audio goes
corpus_scale=1.0
adapter_scale=  # of the adapter's update at decoding
stage=1
stop_stage=13
expdir=exp
dumpdir=dump
nj=
inference_nj=
ngpu=
inference_tag=
overrides=()
score_opts="-e utf-8 -c NOASCII" # of sclite
rest=()

usage="Usage: $0 [options]
  --adapter none|lora|blora|full  what is trained (default: ${adapter}); none decodes the base model
  --set KEY=VALUE                 change a setting of conf/train.yaml or conf/adapter_*.yaml, any number of times,
                                  for example --set adapter_conf.beta=0.1
  --tag TAG                       name of the experiment: exp/asr_<adapter>_<tag>
                                  (default: made of --whisper, if it is not the default, and --set)
  --whisper SIZE_OR_FILE          the base model (default: ${whisper})
  --adapter_scale F               stages 12-13: multiply the adapter's update by F
  --stage N, --stop_stage N       ESPnet's stages (default: ${stage} to ${stop_stage})
  --corpus_dir DIR                where the audio goes (default: \$MINI_CS, local/db.local.sh, downloads/mini_cs)
  --corpus_scale S                share of every set to make, in (0, 1] (default: ${corpus_scale})
  --train_set --valid_set         data directories in data/ (default: ${train_set}, ${valid_set}); ready-made ones: --stage 2
  --test_sets \"SET ...\"           sets of the new domain (default: ${test_sets})
  --retention_sets \"SET ...\"      sets of what the base could do before (default: ${retention_sets})
  --expdir --dumpdir --nj --inference_nj --ngpu --inference_tag
                                  as in asr.sh; jobs and GPUs are taken from the machine
  any other                       goes to asr.sh"

log() {
    echo "$(date '+%Y-%m-%dT%H:%M:%S') (run.sh) $*"
}
die() {
    echo "run.sh: error: $*" >&2
    exit 2
}

# parse_options.sh dies on options it was not told of, so ours are taken out here.
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help)
        echo "${usage}"
        exit 0
        ;;
    --*=*) die "options have the form --name value; found $1" ;;
    --*) [ $# -ge 2 ] || die "$1 needs a value" ;;
    *) die "unknown argument '$1'; options start with --, see $0 --help" ;;
    esac
    name=${1#--}
    name=${name//-/_}
    case ${name} in
    set) overrides+=("$2") ;;
    adapter | tag | whisper | corpus_dir | corpus_scale | adapter_scale | stage | stop_stage | expdir | dumpdir | \
        nj | inference_nj | ngpu | inference_tag | train_set | valid_set | test_sets | retention_sets) printf -v "${name}" '%s' "$2" ;;
    asr_config | asr_exp | python) die "$1 is set by this script; use --set, --tag or --whisper" ;;
    *) rest+=("$1" "$2") ;;
    esac
    shift 2
done

case ${adapter} in
none) inference_asr_model=base.pth ;;
lora | blora | full) inference_asr_model=valid.acc.best.pth ;;
*) die "--adapter ${adapter}: allowed are none, lora, blora, full" ;;
esac
for name in stage stop_stage nj inference_nj ngpu; do
    [[ -z ${!name} && ${name} != *stage || ${!name} =~ ^[0-9]+$ ]] || die "--${name} '${!name}': a number is needed"
done
[[ -z ${adapter_scale} || ${adapter_scale} =~ ^[0-9]*\.?[0-9]+$ ]] ||
    die "--adapter_scale '${adapter_scale}': a number such as 0.7 is needed"

# ---- sets ----
read -ra new_sets <<<"${test_sets}"
read -ra kept_sets <<<"${retention_sets}"
eval_sets=(${new_sets[@]+"${new_sets[@]}"} ${kept_sets[@]+"${kept_sets[@]}"})
for name in train_set valid_set; do
    [[ ${!name} =~ ^[A-Za-z0-9_.-]+$ ]] || die "--${name} '${!name}': one name of letters, digits and _ . - is needed"
done
[ "${train_set}" != "${valid_set}" ] || die "--train_set and --valid_set are both ${train_set}"
[ ${#new_sets[@]} -gt 0 ] || die "--test_sets needs at least one set"
score_sets= # where asr.sh puts them: a validation set that is tested too lies in org/, where stage 4 has dropped nothing
for dset in "${eval_sets[@]}"; do
    [[ ${dset} =~ ^[A-Za-z0-9_.-]+$ ]] || die "set '${dset}': only letters, digits and _ . - are possible"
    [ "${dset}" != "${train_set}" ] || die "${dset} is the training set and cannot be tested"
    [ "${dset}" != "${valid_set}" ] || dset=org/${dset}
    [[ ,${score_sets}, != *,${dset},* ]] || die "${dset#org/} is named twice in --test_sets and --retention_sets"
    score_sets+="${score_sets:+,}${dset}"
done

. ./path.sh
. ./cmd.sh

# In a checkout of ESPnet, espnet_blora lies elsewhere, and the guard that stands before sclite lies with it.
find_us='import importlib.util as u; found = u.find_spec("espnet_blora"); print(found.origin if found else "")'
package=$(python3 -c "${find_us}") || die "python3 does not run here; set up the environment first (make env)"
[ -n "${package}" ] || die "espnet_blora is not installed for $(command -v python3): pip install --no-deps -e /path/to/espnet_blora"
export ESPNET_BLORA_TOOLS=${package%/*/*}/tools/bin
. ./local/path.sh

# --corpus_dir, then the environment, then local/db.local.sh, then db.sh (which may empty the variable)
from_environment=${MINI_CS:-}
. ./db.sh
if [ -f local/db.local.sh ]; then . local/db.local.sh; fi
corpus_dir=${corpus_dir:-${from_environment:-${MINI_CS:-downloads/mini_cs}}}

# asr.sh evaluates its values and splits some of them at blanks
for name in whisper corpus_dir tag expdir dumpdir inference_tag; do
    case ${!name} in
    *[!A-Za-z0-9_.,:=@%+/-]*) die "--${name} '${!name}': only letters, digits and _ . , : = @ % + / - are possible" ;;
    esac
done
if [[ ${whisper} == */* || ${whisper} == *.pt || ${whisper} == *.safetensors ]] && [ ! -f "${whisper}" ]; then
    die "--whisper ${whisper}: no such file; give a checkpoint or a published size such as small"
fi

# ---- what the machine has ----
cores=$(env -u OMP_NUM_THREADS nproc) # path.sh sets that variable, and nproc obeys it
memory_gb=$(awk '/MemAvailable/ {print int($2 / 1048576)}' /proc/meminfo 2>/dev/null || echo 8)
jobs=$((memory_gb * 2 / 3 < cores ? memory_gb * 2 / 3 : cores)) # about 1.5 GB a process
nj=${nj:-$((jobs > 0 ? jobs : 1))}
if [ -z "${ngpu}" ]; then
    if [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then
        ngpu=$(tr ',' '\n' <<<"${CUDA_VISIBLE_DEVICES}" | grep -c '[0-9A-Za-z]' || true)
    else
        ngpu=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU' || true)
    fi
fi
if [ "${ngpu}" -gt 0 ]; then
    gpu_inference=true
    inference_nj=${inference_nj:-${ngpu}}
else
    gpu_inference=false
    inference_nj=${inference_nj:-${nj}}
fi

# ---- names ----
settings=()
base_name=$(basename "${whisper}")
base_name=${base_name%.safetensors}
base_name=${base_name%.pt}
[ "${base_name}" = tiny_mini_cs ] || settings+=(--set encoder_conf.pad_to=30s) # what every other Whisper was trained with
if [ -z "${tag}" ]; then
    [ "${base_name}" = tiny_mini_cs ] || tag=$(tr -c 'A-Za-z0-9.\n-' '_' <<<"${base_name}")
    for override in ${overrides[@]+"${overrides[@]}"}; do
        tag+="${tag:+_}$(tr -c 'A-Za-z0-9.\n-' '_' <<<"${override##*adapter_conf.}")"
    done
fi
asr_exp=${expdir}/asr_${adapter}${tag:+_${tag}}
inference_tag=${inference_tag:-decode${adapter_scale:+_scale${adapter_scale}}}

# run_stages FIRST LAST [asr.sh options]: those of FIRST..LAST that were asked for
run_stages() {
    local first=$1 last=$2 launcher="python3 -m espnet_blora.run --whisper ${whisper}"
    shift 2
    first=$((first > stage ? first : stage))
    last=$((last < stop_stage ? last : stop_stage))
    [ "${first}" -le "${last}" ] || return 0
    if [ "${first}" -ge 12 ] && [ -n "${adapter_scale}" ]; then launcher+=" --adapter-scale ${adapter_scale}"; fi
    ./asr.sh \
        --stage "${first}" --stop_stage "${last}" \
        --python "${launcher}" \
        --nj "${nj}" --inference_nj "${inference_nj}" --ngpu "${ngpu}" --gpu_inference "${gpu_inference}" \
        --expdir "${expdir}" --dumpdir "${dumpdir}" \
        --local_data_opts "--corpus_dir ${corpus_dir} --scale ${corpus_scale} --nj ${nj}" \
        --train_set "${train_set}" --valid_set "${valid_set}" --test_sets "${eval_sets[*]}" \
        --audio_format wav --max_wav_duration 30.0001 \
        --token_type whisper_multilingual --cleaner none --feats_normalize "" --use_lm false \
        --asr_config "${asr_exp}/train.yaml" --asr_exp "${asr_exp}" --asr_stats_dir "${expdir}/asr_stats" \
        --inference_config conf/decode.yaml --inference_tag "${inference_tag}" \
        --inference_asr_model "${inference_asr_model}" --batch_size 16 \
        --score_opts "${score_opts}" \
        --local_score_opts "--inference_tag ${inference_tag} --dump ${dumpdir}/raw --sets ${score_sets}" \
        ${rest[@]+"${rest[@]}"} "$@"
}

# lock FILE: hold it until this script ends or unlocks, waiting for another run that has it
lock() {
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
    python3 -m espnet_blora.bin.validate_data --mono_16k "${dirs[@]}" || die "the data cannot be used, see above"
}

# ---- the base model: a published size is fetched once, before jobs race for it ----
if [ ! -f "${whisper}" ] && [ "${stage}" -le 12 ] && [ "${stop_stage}" -ge 5 ]; then
    python3 -m espnet_blora.bin.fetch_whisper "${whisper}" || die "--whisper ${whisper} cannot be had, see above"
fi
[ ${#kept_sets[@]} -gt 0 ] || log "no --retention_sets: what is forgotten will not be measured"

# ---- data, tokens, statistics: shared by all adapters, so one run at a time ----
mkdir -p "${asr_exp}"
if [ "${stage}" -le 11 ] && [ "${stop_stage}" -ge 10 ]; then
    for override in ${overrides[@]+"${overrides[@]}"}; do settings+=(--set "${override}"); done
    python3 -m espnet_blora.bin.make_config --output "${asr_exp}/train.yaml" \
        ${settings[@]+"${settings[@]}"} conf/train.yaml "conf/adapter_${adapter}.yaml"
fi
if [ "${stage}" -le 10 ]; then
    lock data/.prepare.lock
    if [ "${stage}" -gt 1 ] && [ "${stage}" -le 4 ]; then check_data; fi # stage 1 checks what it makes
    run_stages 1 4
    if [ "${stage}" -le 4 ] && [ "${stop_stage}" -ge 4 ]; then list_dropped; fi
    run_stages 5 9
    if [ "${adapter}" != none ]; then run_stages 10 10; fi
    unlock
fi

# ---- training: one process has the machine unless it has a GPU ----
if [ "${stage}" -le 11 ] && [ "${stop_stage}" -ge 11 ]; then
    if [ "${adapter}" = none ]; then
        log "no adapter: ${asr_exp} gets the base model"
        python3 -m espnet_blora.bin.base_model --config "${asr_exp}/train.yaml" --whisper "${whisper}" \
            --token_list data/token_list/whisper_multilingual/tokens.txt --output_dir "${asr_exp}"
    else
        if [ "${ngpu}" -eq 0 ]; then export ESPNET_BLORA_THREADS=${ESPNET_BLORA_THREADS:-${cores}}; fi
        run_stages 11 11
        unset ESPNET_BLORA_THREADS
    fi
fi

# ---- decoding, scoring; packing and upload if asked for ----
# -c NOASCII makes each character outside ASCII a word of its own: right for Han and Kana, wrong for an accent
others=$(for dset in ${score_sets//,/ }; do
    if [ -f "${dumpdir}/raw/${dset}/utt2lang" ]; then cut -d' ' -f2 "${dumpdir}/raw/${dset}/utt2lang"; fi
done | sort -u | grep -vxE 'zh|yue|ja|en' | paste -sd' ' || true)
if [ -n "${others}" ]; then
    score_opts="-e utf-8"
    log "sclite's WER takes words at blanks, because there are sets in ${others}; the mixed error rate is our score's"
fi
run_stages 12 100
log "done: ${asr_exp}"
