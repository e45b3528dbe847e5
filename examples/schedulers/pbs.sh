#!/bin/sh
# Submits one round to PBS: a job array that trains its clients, and a job that aggregates and
# evaluates. Usage: sh pbs.sh ROUND; FEDCLI_RUN names the run. Not tried: written after the
# documentation of OpenPBS 23, where an array has at least two tasks.
set -eu
run=$(cd "${FEDCLI_RUN:-fedrun}" && pwd)
round=$1
clients=$(FEDCLI_RUN=$run fedcli status --sampled --round "$round")
count=$(echo "$clients" | tr , '\n' | wc -l)

train=$(qsub -V -N "train-$round" -J "1-$count" -l select=1:ncpus=1:mem=4gb -l walltime=00:30:00 <<JOB
cd "\$PBS_O_WORKDIR"
fedcli train-client --run "$run" --round $round --threads "\$NCPUS" \
    --id "\$(echo "$clients" | cut -d, -f"\$PBS_ARRAY_INDEX")"
JOB
)
qsub -V -N "aggregate-$round" -W "depend=afterok:$train" -l select=1:ncpus=1:mem=4gb <<JOB
cd "\$PBS_O_WORKDIR"
fedcli aggregate --run "$run" --round $round --wait 120
fedcli evaluate --run "$run" --round $round
JOB
