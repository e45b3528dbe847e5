#!/bin/sh
# The article's experiment: three clients that may not share their pictures, against one model
# trained on all of them. docs/results.md has the results and explains them.
#
# Usage: sh examples/cifar10.sh PICTURES [FOLDER]
#   PICTURES  a folder with train/<class>/… and test/<class>/… of CIFAR-10, or the word `cifar10`
#             to let torchvision download the original
#   FOLDER    where the runs and the report go, by default ./cifar10-runs
# ROUNDS, EPOCHS (local epochs per round), LR, JOBS (clients at a time), THREADS (of each client),
# LIMIT (training pictures) and OPTIONS (more options of `fedcli partition`) are read from the
# environment.
set -eu
. "$(dirname -- "$0")/setup.sh"
case ${1:?usage: sh examples/cifar10.sh PICTURES [FOLDER]} in
    cifar10) dataset=cifar10 download=--download ;;
    *) download='' dataset=imagefolder:$(CDPATH='' cd -- "$1" && pwd) ;;
esac
mkdir -p "${2:-cifar10-runs}"
cd "${2:-cifar10-runs}"
rounds=${ROUNDS:-5}
six=airplane,automobile,bird,cat,deer,dog

# run NAME JOBS PARTITION-OPTIONS…: make a run, do its rounds, score every round's model.
run() {
    name=$1 jobs=$2
    shift 2
    # shellcheck disable=SC2086 # $OPTIONS is a list of words
    fedcli partition --run "$name" --dataset "$dataset" $download --model resnet18 \
        ${LIMIT:+--limit "$LIMIT"} \
        --epochs "${EPOCHS:-1}" --lr "${LR:-0.01}" --augment flip ${OPTIONS:-} "$@"
    fedcli run --run "$name" --rounds "$rounds" --jobs "$jobs" ${THREADS:+--threads "$THREADS"}
}

jobs=${JOBS:-3}
run two-classes-each "$jobs" --scheme labels \
    --labels airplane,automobile --labels bird,cat --labels deer,dog
run six-classes-centralised 1 --scheme labels --labels "$six"
run iid "$jobs" --scheme iid --clients 3
run dirichlet-0.5 "$jobs" --scheme dirichlet --alpha 0.5 --clients 3
run centralised 1 --scheme iid --clients 1

# The six classes that the first federation has seen, and the model that each client has alone.
for name in two-classes-each six-classes-centralised; do
    fedcli evaluate --run "$name" --round all --classes "$six"
done
for client in 0 1 2; do
    fedcli evaluate --run two-classes-each --id "$client" --classes "$six"
done

fedcli report two-classes-each six-classes-centralised iid \
    dirichlet-0.5 centralised \
    --html report.html --markdown report.md --csv report.csv
