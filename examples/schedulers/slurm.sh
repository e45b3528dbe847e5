#!/bin/sh
# Submits rounds to Slurm: for each, a job array that trains its clients, and a job that aggregates
# and evaluates. Usage: sh slurm.sh ROUNDS [OPTIONS OF THE TRAINING JOBS], as in
#   FEDCLI_RUN=study sh slurm.sh 10 --partition=gpu --gres=gpu:1 --cpus-per-task=4 --time=30
# QUORUM=N aggregates as soon as all clients have ended, if N of them have delivered.
set -eu
export FEDCLI_RUN="${FEDCLI_RUN:-fedrun}"
rounds=$1
shift
logs=$FEDCLI_RUN.logs
mkdir -p "$logs"

before=
round=0
while [ "$round" -lt "$rounds" ]; do
    round=$((round + 1))
    [ ! -e "$(printf '%s/rounds/%04d/evaluation.json' "$FEDCLI_RUN" "$round")" ] || continue
    # The draw depends on the seed and the round alone, so it is known before the round begins.
    CLIENTS=$(fedcli status --sampled --round "$round")
    export CLIENTS
    count=$(echo "$CLIENTS" | tr , '\n' | wc -l)
    train=$(sbatch --parsable --job-name="train-$round" --output="$logs/%x-%a.log" \
        --array="1-$count" ${before:+"--dependency=afterok:$before"} --kill-on-invalid-dep=yes \
        "$@" --wrap "fedcli train-client --round $round --threads \$SLURM_CPUS_ON_NODE \
            --id \"\$(echo \"\$CLIENTS\" | cut -d, -f\"\$SLURM_ARRAY_TASK_ID\")\"")
    if [ -n "${QUORUM:-}" ]; then
        after=afterany combine="fedcli aggregate --round $round --min-clients $QUORUM"
    else
        after=afterok combine="fedcli aggregate --round $round --wait 120"
    fi
    before=$(sbatch --parsable --job-name="aggregate-$round" --output="$logs/%x.log" \
        --dependency="$after:$train" --kill-on-invalid-dep=yes \
        --wrap "$combine && fedcli evaluate --round $round")
    echo "round $round: $count clients in job $train, then job $before"
done
