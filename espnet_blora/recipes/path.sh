# shellcheck shell=bash
# What local/path.sh adds to ESPnet's path.sh, also inside cluster jobs: sourced last.
# One thread a process is right for stages that run many; run.sh asks for more where one process has the machine (stage
# 11 without a GPU).
export OMP_NUM_THREADS=${ESPNET_BLORA_THREADS:-${SLURM_CPUS_PER_TASK:-1}}
# Threads that wait asleep. Beside one other busy process a training step with spinning threads was seen to take 8 s
# instead of 0.3 s; a loop of small products took 6.3 s spinning and 4.0 s asleep there, 2.0 and 2.2 s alone (one run).
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}
