# shellcheck shell=bash
# Which program runs the jobs of asr.sh, by cmd_backend. Sourced by a recipe's cmd.sh.
case ${cmd_backend} in
local) _pl=run.pl ;;      # this machine
stdout) _pl=stdout.pl ;;  # this machine, logs also on the screen
slurm) _pl=slurm.pl ;;    # sbatch, options in conf/slurm.conf: change "-p cpu" and "-p gpu" there
sge) _pl=queue.pl ;;      # qsub of Grid Engine, options in conf/queue.conf
pbs) _pl=pbs.pl ;;        # qsub of Torque/PBS, options in conf/pbs.conf
ssh) _pl=ssh.pl ;;        # the machines listed in .queue/machines
*)
    echo "cmd.sh: unknown cmd_backend=${cmd_backend}; allowed: local stdout slurm sge pbs ssh" >&2
    return 1
    ;;
esac
export train_cmd=${_pl}  # data preparation, statistics
export cuda_cmd=${_pl}   # training and decoding on GPUs; asr.sh appends --gpu
export decode_cmd=${_pl} # decoding on CPUs
unset _pl
