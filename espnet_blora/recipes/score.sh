# shellcheck shell=bash
# Stage 13 after sclite: our figures, paired by utterance id. Sourced by local/score.sh after path.sh, with its arguments:
#   --inference_tag TAG --dump DIR [--mode MODE] --sets SET,SET ASR_EXP
# asr.sh splits what --local_score_opts says at blanks, so the sets come joined by commas.
inference_tag=decode
dump=dump/raw
mode=default
sets=
# shellcheck disable=SC1091
. utils/parse_options.sh
if [ $# -ne 1 ] || [ -z "${sets}" ]; then
    echo "usage: $0 --inference_tag TAG --dump DIR [--mode MODE] --sets SET,SET ASR_EXP" >&2
    exit 2
fi

failed=0
for dset in ${sets//,/ }; do
    status=0
    python3 -m espnet_blora.bin.score --mode "${mode}" \
        --ref "${dump}/${dset}/text" \
        --hyp "$1/${inference_tag}/${dset}/text" \
        --utt2lang "${dump}/${dset}/utt2lang" \
        --utt2spk "${dump}/${dset}/utt2spk" \
        --output_dir "$1/${inference_tag}/${dset}/score_blora" || status=$?
    # 3: the score is written, but sclite's totals differ from it by more than its costs explain
    case ${status}:${failed} in
        0:* | 3:[1-9]*) ;;
        *) failed=${status} ;;
    esac
done
exit "${failed}"
