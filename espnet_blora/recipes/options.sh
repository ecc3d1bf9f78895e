# shellcheck shell=bash
# Options of every recipe's run.sh: read, and refused where they make no sense, before anything runs.

log() {
    echo "$(date '+%Y-%m-%dT%H:%M:%S') (run.sh) $*"
}
die() {
    echo "run.sh: error: $*" >&2
    exit 2
}

# what a recipe need not say
corpus=${corpus:-}
corpus_default=${corpus_default:-}
read -ra data_options <<<"${data_options:-}"
read -ra conf_behind <<<"${conf_behind:-}" # folders of configurations that stand behind the recipe's own conf/
audio_format=${audio_format:-flac}
max_wav_duration=${max_wav_duration:-30.0001} # stage 4 keeps what is strictly shorter
score_opts=${score_opts:--e utf-8 -c NOASCII} # of sclite, in stage 13
score_mode=${score_mode:-}                    # of our own score, there too (bin/score.py --mode)
recipe_whisper=${whisper}

adapter=auto # any with an adapter_<name>.yaml, here or shared; auto: lora_keep where old audio is named, else blora
tag=         # appended to the experiment's name; by default made of --set
corpus_dir=
max_lost= # share of a set whose audio may be missing; by default that of stage 1's programs
adapter_scale= # of the adapter's update at decoding
keep=${keep:-} # unlabelled old audio: sets in data/, or paths
repair=        # strength of a repair of the adapter at decoding
search=batched # who decodes in stage 12: our batched search, or ESPnet's (espnet)
new_languages= # codes of languages that are added to Whisper's own
join=          # longest gap in seconds over which training segments are joined
part=          # where the training set is one of several (language.sh, --join): in the names of experiments and statistics
stage=1
stop_stage=13
expdir=exp
dumpdir=dump
clips_dir=downloads
nj=
inference_nj=
ngpu=
inference_tag=
inference_config= # by default conf/decode.yaml, here or shared
dry_run=          # 1: only show the commands
overrides=()
corpus_options=()
own_retention= # 1: --retention_sets was given, so a missing one is a mistake
rest=()
# options whose value is taken as it stands; set, corpus_option and retention_sets are read otherwise
own_options=(adapter tag whisper corpus_dir max_lost join clips_dir adapter_scale keep repair search stage stop_stage expdir dumpdir
    nj inference_nj ngpu inference_tag inference_config train_set valid_set test_sets
    new_languages audio_format max_wav_duration score_opts score_mode ${data_options[@]+"${data_options[@]}"})

# What --adapter may be: each has a configuration in the recipe's conf/ or in the one that recipes share.
adapters() {
    local config folder
    for folder in conf ${conf_behind[@]+"${conf_behind[@]}"} "${recipes}/conf"; do
        for config in "${folder}"/adapter_*.yaml; do
            [ -f "${config}" ] || continue # the pattern itself, where a folder has none
            config=${config##*/adapter_}
            echo "${config%.yaml}"
        done
    done | sort -u | paste -sd' '
}

# config FILE: a configuration; the recipe's own goes before the one behind it and the shared one
config() {
    local folder
    for folder in conf ${conf_behind[@]+"${conf_behind[@]}"}; do
        if [ -f "${folder}/$1" ]; then
            echo "${folder}/$1"
            return
        fi
    done
    echo "${recipes}/conf/$1"
}

usage() {
    cat <<USAGE
Usage: $0 [options]
  --adapter NAME                  what is trained, by conf/adapter_NAME.yaml or the shared one (default: auto, which is
                                  lora_keep with --keep, and blora without):
$(adapters | fold -s -w 80 | sed 's/^ */                                  /; s/ *$//')
                                  (none decodes the base model, full trains every weight)
  --set KEY=VALUE                 change a setting of conf/train.yaml or conf/adapter_*.yaml, any number of times,
                                  for example --set adapter_conf.beta=0.1
  --tag TAG                       name of the experiment: exp/asr_<adapter>_<tag>
                                  (default: made of --whisper, if it is not the default, and --set)
  --whisper SIZE_OR_FILE          the base model (default: ${whisper})
  --adapter_scale F               stages 12-13: multiply the adapter's update by F
  --keep "SET ..."                old audio, no text needed: minutes of what is to be kept, for --repair, --adapter
                                  lora_keep, --set adapter_conf.prior=moments and --set retain.weight=4 (what the base
                                  says of old audio is a term of the loss); sets in data/, or paths (with a /) of
                                  audio files, folders of them and Kaldi directories; "synthetic": none is at hand,
                                  espeak-ng speaks some in the languages of the training and retention sets
  --repair MU                     stages 12-13: repair the adapter with this strength, without training (0.1 to 1)
  --search batched|espnet         stage 12: our batched search (default), or ESPnet's: the same texts, slower
  --new_languages "CODE ..."      languages that Whisper lacks: each gets a token whose embedding is trained beside the
                                  adapter; utt2lang may then name them
  --dry_run                       show the commands, asr.sh's among them, and run none
  --stage N, --stop_stage N       ESPnet's stages (default: ${stage} to ${stop_stage})
  --corpus_dir DIR                where the corpus is
                                  (default: \$${corpus_variable}, local/db.local.sh, db.sh${corpus_default:+, ${corpus_default}})
  --corpus_option KEY=VALUE       an option of the corpus's reader, any number of times
  --max_lost SHARE                of a set's audio that may be missing or broken in stage 1 (default: 0.05; test sets: 0)
  --join SECONDS                  train on joined utterances of up to 28 s: consecutive segments of one speaker in one
                                  recording with at most SECONDS between them, as set ${train_set}_joinSECONDS
  --clips_dir DIR                 where stage 1 writes 16 kHz audio (default: ${clips_dir})
  --train_set --valid_set         data directories in data/ (default: ${train_set}, ${valid_set}); ready-made ones: --stage 2
  --test_sets "SET ..."           sets of the new domain (default: ${test_sets})
  --retention_sets "SET ..."      sets of what the base could do before (default: those of these that are at hand:
                                  ${retention_sets})
  --expdir --dumpdir --nj --inference_nj --ngpu --inference_tag --inference_config
                                  as in asr.sh; jobs and GPUs are taken from the machine
$([ ${#data_options[@]} -eq 0 ] || printf '  --%s VALUE (of this recipe: README.md)\n' "${data_options[@]}")
  any other                       goes to asr.sh
USAGE
}

# parse_options.sh dies on options it was not told of, so ours are taken out here.
read_options() {
    local name
    while [ $# -gt 0 ]; do
        case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --dry_run | --dry-run)
            dry_run=1
            shift
            continue
            ;;
        --*=*)
            set -- "${1%%=*}" "${1#*=}" "${@:2}"
            continue
            ;;
        --*) [ $# -ge 2 ] || die "$1 needs a value" ;;
        *) die "unknown argument '$1'; options start with --, see $0 --help" ;;
        esac
        name=${1#--}
        name=${name//-/_}
        case ${name} in
        set) overrides+=("$2") ;;
        corpus_option) corpus_options+=("$2") ;;
        retention_sets) own_retention=1 retention_sets=$2 ;;
        asr_config | asr_exp | python) die "$1 is set by this script; use --set, --tag or --whisper" ;;
        *)
            if [[ " ${own_options[*]} " = *" ${name} "* ]]; then
                printf -v "${name}" '%s' "$2"
            elif [[ " $(asr_options) " = *" ${name} "* ]]; then
                rest+=("$1" "$2")
            else
                die "$1: neither $0 nor asr.sh has this option$(did_you_mean "${name}")"
            fi
            ;;
        esac
        shift 2
    done
}

# asr_options: what asr.sh takes, which are the variables that it sets before it reads its options
asr_options() {
    echo "config $(sed -n '/parse_options.sh$/q; s/^\([a-z][a-z0-9_]*\)=.*/\1/p' asr.sh | paste -sd' ')"
}

# did_you_mean NAME: the end of a message that names the option most like it
did_you_mean() {
    local known
    read -ra known <<<"set corpus_option retention_sets dry_run help ${own_options[*]} $(asr_options)"
    python3 -c 'import sys; from espnet_blora.utils.mistakes import did_you_mean as end; print(end(sys.argv[1], sys.argv[2:]))' \
        "--$1" "${known[@]/#/--}"
}

check_options() {
    local name dset
    if [ "${adapter}" = auto ]; then
        adapter=blora
        [ -z "${keep}" ] || [ -n "${repair}" ] || adapter=lora_keep
    fi
    if [[ ! ${adapter} =~ ^[a-z0-9_]+$ || ! -f $(config "adapter_${adapter}.yaml") ]]; then
        die "--adapter ${adapter}: allowed are the names of conf/adapter_*.yaml: $(adapters)"
    fi
    inference_asr_model=valid.acc.best.pth
    [ "${adapter}" != none ] || inference_asr_model=base.pth
    for name in stage stop_stage nj inference_nj ngpu; do
        [[ -z ${!name} && ${name} != *stage || ${!name} =~ ^[0-9]+$ ]] || die "--${name} '${!name}': a number is needed"
    done
    [ "${stage}" -le "${stop_stage}" ] || die "--stage ${stage} is after --stop_stage ${stop_stage}: nothing would run"
    [[ -z ${adapter_scale} || ${adapter_scale} =~ ^[0-9]*\.?[0-9]+$ ]] ||
        die "--adapter_scale '${adapter_scale}': a number such as 0.7 is needed"

    if [ -n "${repair}" ]; then
        [[ ${repair} =~ ^[0-9]*\.?[0-9]+$ ]] || die "--repair '${repair}': a number such as 0.2 is needed"
        case ${adapter} in
        none) die "--repair ${repair}: --adapter none has no adapter, so there is no update to repair" ;;
        dora | vera | vblora) die "--repair ${repair}: --adapter ${adapter} cannot be repaired; --adapter_scale turns it down" ;;
        esac
        [ -n "${keep}" ] || die "--repair ${repair}: --keep \"SET ...\" names what is to be kept"
        repair=$(LC_ALL=C printf '%g' "${repair}")
    fi
    [[ ${keep} =~ ^[A-Za-z0-9_.\ /-]*$ ]] ||
        die "--keep '${keep}': names of sets in data/ and paths are needed, with blanks between, of letters, digits and _ . -"
    for name in ${keep}; do
        [[ ${name} != */* || -e ${name} ]] || die "--keep ${name}: no such file or folder"
    done
    check_keep_file

    [[ -z ${max_lost} || ${max_lost} =~ ^(0?\.[0-9]+|[01](\.0*)?)$ ]] ||
        die "--max_lost '${max_lost}': a share from 0 to 1 such as 0.1 is needed"

    if [ "${search}" = own ]; then
        log "--search own is called --search batched now"
        search=batched
    fi
    [[ ${search} =~ ^(batched|espnet)$ ]] || die "--search '${search}': batched or espnet is needed"

    new_languages=$(tr -s ', ' ' ' <<<"${new_languages}")
    [[ ${new_languages} =~ ^([a-z]{2,3}( |$))*$ ]] ||
        die "--new_languages '${new_languages}': codes of 2 or 3 letters a-z are needed, with blanks between them"

    read -ra new_sets <<<"${test_sets}"
    read -ra kept_sets <<<"${retention_sets}"
    for name in train_set valid_set; do
        [[ ${!name} =~ ^[A-Za-z0-9_.-]+$ ]] || die "--${name} '${!name}': one name of letters, digits and _ . - is needed"
    done
    if [ -n "${join}" ]; then
        [[ ${join} =~ ^[0-9]+(\.[0-9]+)?$ ]] || die "--join '${join}': seconds such as 0.5 are needed"
        [[ -n ${corpus} && -z ${language_option:-} ]] || die "--join ${join}: the corpus of this recipe has no segments to join"
        train_set=${train_set}_join${join}
    fi
    [ "${train_set}" != "${valid_set}" ] || die "--train_set and --valid_set are both ${train_set}"
    [ ${#new_sets[@]} -gt 0 ] || die "--test_sets needs at least one set"
    local seen=
    for dset in "${new_sets[@]}" ${kept_sets[@]+"${kept_sets[@]}"}; do
        [[ ${dset} =~ ^[A-Za-z0-9_.-]+$ ]] || die "set '${dset}': only letters, digits and _ . - are possible"
        [ "${dset}" != "${train_set}" ] || die "${dset} is the training set and cannot be tested"
        [[ ,${seen}, != *,${dset},* ]] || die "${dset} is named twice in --test_sets and --retention_sets"
        seen+="${seen:+,}${dset}"
    done

    # asr.sh evaluates its values and splits some of them at blanks
    for name in whisper corpus_dir clips_dir tag expdir dumpdir inference_tag inference_config score_mode; do
        plain "--${name}" "${!name}"
    done
    for name in ${corpus_options[@]+"${corpus_options[@]}"}; do
        plain --corpus_option "${name}"
        [[ ${name} =~ ^[a-z_]+=[^,]+$ ]] || die "--corpus_option '${name}': KEY=VALUE is needed, without commas"
    done
    if [[ ${whisper} == */* || ${whisper} == *.pt || ${whisper} == *.safetensors ]] && [ ! -f "${whisper}" ]; then
        die "--whisper ${whisper}: no such file; give a checkpoint or a published size such as small"
    fi
    for name in cleaner hyp_cleaner; do
        [ "${stop_stage}" -lt 13 ] || [ "$(rest_value "${name}" none)" = none ] ||
            die "--${name}: stage 13 scores texts as they stand; --score_mode treats both sides alike"
    done
    [ ${#kept_sets[@]} -gt 0 ] || log "no --retention_sets: what is forgotten will not be measured"
}

# keeps_in_training: whether the adapter's training needs the moments of old audio
keeps_in_training() {
    [[ ${adapter} = lora_keep || " ${overrides[*]-} " = *" adapter_conf.prior=moments "* ]]
}

# retains_in_training: whether a term of the loss needs what the base says of old audio, of which no data is named
retains_in_training() {
    local said=" ${overrides[*]-} "
    [[ ${said} != *" retain.data="* && ${said} != *" retain=null "* ]] || return 1
    [[ ${said} = *" retain."* ]] || grep -qs '^retain:' "$(config train.yaml)" "$(config "adapter_${adapter}.yaml")"
}

# check_keep_file: without --keep there must be a file of moments already where training needs one
check_keep_file() {
    local override file
    [ -z "${keep}" ] && [ "${stage}" -le 11 ] && [ "${stop_stage}" -ge 11 ] && keeps_in_training || return 0
    file=$(sed -n 's/^ *keep_file: *\([^ #]*\).*/\1/p' "$(config "adapter_${adapter}.yaml")" | tr -d "'\"")
    for override in ${overrides[@]+"${overrides[@]}"}; do
        case ${override} in adapter_conf.keep_file=*) file=${override#*=} ;; esac
    done
    [ -f "${file}" ] || die "--adapter ${adapter}: training needs the moments of old audio, and there is no file" \
        "${file:-of them}: --keep \"SET ...\" names sets in data/ of which they are made"
}

# plain NAME VALUE: refuse what asr.sh could not pass on
plain() {
    case $2 in
    *[!A-Za-z0-9_.,:=@%+/-]*) die "$1 '$2': only letters, digits and _ . , : = @ % + / - are possible" ;;
    esac
}

# rest_value NAME DEFAULT: the last value of an option that goes to asr.sh
rest_value() {
    local n value=$2
    for ((n = 0; n < ${#rest[@]}; n += 2)); do
        if [ "${rest[n]//-/_}" = "__$1" ]; then value=${rest[n + 1]}; fi
    done
    echo "${value}"
}

# call COMMAND...: run it, or only show it where --dry_run was given
call() {
    if [ -z "${dry_run}" ]; then
        "$@"
    else
        printf '%q ' "$@"
        echo
    fi
}
