# Where jobs run: sourced by asr.sh. Choose with `cmd_backend=slurm ./run.sh ...` or change the default below.
#   local   this machine (run.pl)
#   stdout  this machine, logs also on the screen (stdout.pl)
#   slurm   sbatch (slurm.pl), options in conf/slurm.conf; change "-p cpu" and "-p gpu" there
#   sge     qsub of Grid Engine (queue.pl), options in conf/queue.conf
#   pbs     qsub of Torque/PBS (pbs.pl), options in conf/pbs.conf
#   ssh     the machines listed in .queue/machines (ssh.pl)
cmd_backend=${cmd_backend:-local}

case ${cmd_backend} in
local) _pl=run.pl ;;
stdout) _pl=stdout.pl ;;
slurm) _pl=slurm.pl ;;
sge) _pl=queue.pl ;;
pbs) _pl=pbs.pl ;;
ssh) _pl=ssh.pl ;;
*)
    echo "cmd.sh: unknown cmd_backend=${cmd_backend}; allowed: local stdout slurm sge pbs ssh" >&2
    return 1
    ;;
esac
export train_cmd=${_pl}  # data preparation, statistics
export cuda_cmd=${_pl}   # training and decoding on GPUs; asr.sh appends --gpu
export decode_cmd=${_pl} # decoding on CPUs
unset _pl
