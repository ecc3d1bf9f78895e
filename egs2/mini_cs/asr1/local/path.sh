# Sourced last by path.sh, also inside cluster jobs. path.sh sets one thread a process, right for stages that
# run many processes; run.sh asks for more where one process has the machine (stage 11 without a GPU).
# What ESPnet's own tools put on PATH must not stand before the guard of sclite (run.sh knows where that is).
if [ -x "${ESPNET_BLORA_TOOLS:-}/sclite" ] && [ "$(command -v sclite)" != "${ESPNET_BLORA_TOOLS}/sclite" ]; then
    export PATH="${ESPNET_BLORA_TOOLS}:${PATH}"
fi
export OMP_NUM_THREADS=${ESPNET_BLORA_THREADS:-${SLURM_CPUS_PER_TASK:-1}}
# Threads that wait asleep: a tenth slower on an idle machine, but beside one other busy process spinning threads
# were seen to make a training step take 8 s instead of 0.3 s.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}
