# shellcheck shell=bash
# Where the corpora are, and what the machine has.

# find_corpora: --corpus_dir, then the environment, then local/db.local.sh, then db.sh (which may empty the variable).
# The variables of all corpora are exported, so that stage 1 finds those of the retention sets too.
find_corpora() {
    local name variables
    declare -A from_environment
    variables=${corpus_variable}
    if [ -n "${corpus}" ] && [ "${stage}" -le 1 ]; then
        variables+=" $(python3 -m espnet_blora.bin.recipe --variables)"
    fi
    for name in ${variables}; do from_environment[${name}]=${!name:-}; done
    # shellcheck disable=SC1091
    . ./db.sh
    for name in ${variables}; do # `downloads` is what db.sh says of a corpus that nobody has told it of
        if [ "${name}" != "${corpus_variable}" ] && [ "${!name:-}" = downloads ]; then printf -v "${name}" '%s' ""; fi
    done
    # shellcheck disable=SC1091
    if [ -f local/db.local.sh ]; then . local/db.local.sh; fi
    for name in ${variables}; do
        printf -v "${name}" '%s' "${from_environment[${name}]:-${!name:-}}"
        export "${name?}"
    done
    corpus_dir=${corpus_dir:-${!corpus_variable:-${corpus_default}}}
    plain "the folder of the corpus (${corpus_variable})" "${corpus_dir}"
    printf -v "${corpus_variable}" '%s' "${corpus_dir}" # its retention sets are looked for there, too
    export "${corpus_variable?}"
    if [ -z "${corpus_dir}" ] && [ "${stage}" -le 1 ]; then
        die "where is the corpus? give --corpus_dir DIR, or set ${corpus_variable}=DIR in the environment or in" \
            "local/db.local.sh; how to get it, and how to check a copy: README.md"
    fi
}

# use_machine: jobs from cores and memory (about 1.5 GB a process), GPUs that are visible
use_machine() {
    local memory_gb jobs
    # A queue's machines are not this one: without a GPU here, training would silently get one core there.
    if [[ -z ${ngpu} && ${cmd_backend} =~ ^(slurm|sge|pbs)$ && ${stage} -le 12 && ${stop_stage} -ge 10 ]]; then
        die "cmd_backend=${cmd_backend}: --ngpu is not given, and what this host has says nothing of the queue's machines;" \
            "give --ngpu N (GPUs of the training's job) or --ngpu 0 (train and decode on CPUs)"
    fi
    cores=$(env -u OMP_NUM_THREADS nproc) # path.sh sets that variable, and nproc obeys it
    memory_gb=$(awk '/MemAvailable/ {print int($2 / 1048576)}' /proc/meminfo 2>/dev/null || echo 8)
    jobs=$((memory_gb * 2 / 3 < cores ? memory_gb * 2 / 3 : cores))
    nj=${nj:-$((jobs > 0 ? jobs : 1))}
    if [ -z "${ngpu}" ]; then
        if [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then
            ngpu=$(tr ',' '\n' <<<"${CUDA_VISIBLE_DEVICES}" | grep -c '[0-9A-Za-z]' || true)
        else
            ngpu=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU' || true)
        fi
    fi
    gpu_inference=false
    if [ "${ngpu}" -gt 0 ]; then gpu_inference=true inference_nj=${inference_nj:-${ngpu}}; fi
    inference_nj=${inference_nj:-${nj}}
}
