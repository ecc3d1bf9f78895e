# Where jobs run: local stdout slurm sge pbs ssh. `cmd_backend=slurm ./run.sh ...`, or change it here;
# partitions and the like stand in conf/slurm.conf, queue.conf, pbs.conf.
cmd_backend=${cmd_backend:-local}
. "$(python3 -m espnet_blora.bin.recipe cmd.sh)"
