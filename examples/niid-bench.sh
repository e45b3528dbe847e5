#!/bin/sh
# One cell of NIID-Bench's table (Li et al. 2022, "Federated Learning on Non-IID Data Silos"):
# CIFAR-10 among ten parties by Dirichlet 0.5, all of them in every round.
#
# Usage: sh examples/niid-bench.sh PICTURES [FOLDER]
#   PICTURES  a folder with train/<class>/… and test/<class>/… of CIFAR-10, or the word `cifar10`
#             to let torchvision download the original
#   FOLDER    where the runs and the report go, by default ./niid-bench
# ALGORITHMS (names separated by spaces; a name may bring options, as in fedprox:--mu:0.1), ROUNDS,
# EPOCHS, SEED, JOBS (clients at a time) and LIMIT (training pictures) are read from the
# environment. docs/results.md has the results and explains them.
set -eu
. "$(dirname -- "$0")/setup.sh"
case ${1:?usage: sh examples/niid-bench.sh PICTURES [FOLDER]} in
    cifar10) dataset=cifar10 download=--download ;;
    *) download='' dataset=imagefolder:$(CDPATH='' cd -- "$1" && pwd) ;;
esac
export PYTHONPATH="$root/examples${PYTHONPATH:+:$PYTHONPATH}"
export FEDCLI_MODEL=simple_cnn:SimpleCNN
mkdir -p "${2:-niid-bench}"
cd "${2:-niid-bench}"

runs=''
for algorithm in ${ALGORITHMS:-fedavg fedprox:--mu:0.01}; do
    name=$(echo "$algorithm" | sed 's/:-*/-/g') # fedprox:--mu:0.1 is the run fedprox-mu-0.1
    # shellcheck disable=SC2046,SC2086 # the options are lists of words
    fedcli partition --run "$name" --dataset "$dataset" $download --model "$FEDCLI_MODEL" \
        ${LIMIT:+--limit "$LIMIT"} --seed "${SEED:-0}" \
        --scheme dirichlet --alpha 0.5 --clients 10 --min-size 10 --balance \
        --algorithm $(echo "$algorithm" | tr : ' ') \
        --epochs "${EPOCHS:-10}" --batch-size 64 --lr 0.01 --momentum 0.9 --weight-decay 1e-5 \
        --augment crop,flip
    fedcli run --run "$name" --rounds "${ROUNDS:-50}" --jobs "${JOBS:-auto}" --threads 1
    runs="$runs $name"
done
# shellcheck disable=SC2086 # a list of words
fedcli report $runs --html report.html --markdown report.md --csv report.csv
