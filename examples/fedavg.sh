#!/bin/sh
# FedAvg as a loop: the clients of a round train side by side, then their updates are combined.
# Usage: sh examples/fedavg.sh [RUN] [ROUNDS]
set -eu
. "$(dirname -- "$0")/setup.sh"
export FEDCLI_RUN="${1:-fedavg-run}"
rounds=${2:-3}
clients="0 1 2 3"

fedcli partition --clients 4 --scheme dirichlet --alpha 0.5 --epochs 1 --limit "${LIMIT:-4000}"
round=1
while [ "$round" -le "$rounds" ]; do
    jobs=""
    for client in $clients; do
        fedcli train-client --id "$client" --round "$round" --threads 1 --quiet &
        jobs="$jobs $!"
    done
    for job in $jobs; do
        wait "$job" # ends the script when this client failed
    done
    fedcli aggregate --round "$round" --quiet
    fedcli evaluate --round "$round" --quiet
    round=$((round + 1))
done
fedcli report
