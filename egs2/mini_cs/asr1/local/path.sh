# Sourced last by path.sh, also inside cluster jobs. path.sh sets one thread a process, right for stages that
# run many processes; run.sh asks for more where one process has the machine (stage 11 without a GPU).
export OMP_NUM_THREADS=${ESPNET_BLORA_THREADS:-${SLURM_CPUS_PER_TASK:-1}}
