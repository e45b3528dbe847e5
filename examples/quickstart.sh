#!/bin/sh
# A federation of three clients on the embedded data set: partition, train, aggregate, evaluate,
# report. Usage: sh examples/quickstart.sh [RUN]; RUN is the run directory, by default ./fedrun.
# LIMIT uses only that many pictures, for a shorter run.
set -eu
. "$(dirname -- "$0")/setup.sh"
export FEDCLI_RUN="${1:-fedrun}"

set -x
fedcli partition ${LIMIT:+--limit "$LIMIT"}
fedcli train-client --id 0
fedcli train-client --id 1
fedcli train-client --id 2
fedcli aggregate
fedcli evaluate
fedcli report --html "$FEDCLI_RUN/report.html"
