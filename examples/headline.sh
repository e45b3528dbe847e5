#!/bin/sh
# The article's headline within its own budget: ResNet-18 on CIFAR-10, three IID clients, fresh
# weights, at most 36.5 MB exchanged in all. Updates and models are encoded in both directions, and
# the starting model is drawn from the seed. docs/compression.md has the results.
#
# Usage: sh examples/headline.sh PICTURES [FOLDER]
#   PICTURES  a folder with train/<class>/… and test/<class>/… of CIFAR-10, or the word `cifar10`
#             to let torchvision download the original
#   FOLDER    where the runs and the report go, by default ./headline
# SEEDS (separated by spaces), SHARE (of the parameters that are sent; 1 sends plain files), FEEDBACK
# (λ of clients), ROUNDS, EPOCHS (local epochs per round), LR, START (clients in the first round),
# IMAGE_SIZE, JOBS (clients at a time), THREADS (of each client), LIMIT (training pictures) and
# OPTIONS (more options of `fedcli partition`) are read from the environment. The same call again
# resumes what was interrupted.
set -eu
. "$(dirname -- "$0")/setup.sh"
case ${1:?usage: sh examples/headline.sh PICTURES [FOLDER]} in
    cifar10) dataset=cifar10 download=--download ;;
    *) download='' dataset=imagefolder:$(CDPATH='' cd -- "$1" && pwd) ;;
esac
mkdir -p "${2:-headline}"
cd "${2:-headline}"
share=${SHARE:-0.07} feedback=${FEEDBACK:-0} rounds=${ROUNDS:-10} epochs=${EPOCHS:-3} start=${START:-1}
case $share in
    1) encoding='' ;;
    *) encoding="--encode round=$share --feedback $feedback --encode-global round=$share" ;;
esac

runs=''
for seed in ${SEEDS:-0}; do
    run=share-$share-feedback-$feedback-start-$start-seed-$seed
    # shellcheck disable=SC2086 # the options are lists of words
    fedcli partition --run "$run" --dataset "$dataset" $download --image-size "${IMAGE_SIZE:-64}" \
        ${LIMIT:+--limit "$LIMIT"} --scheme iid --clients 3 --seed "$seed" \
        --model resnet18 --epochs "$epochs" --batch-size 128 --lr "${LR:-0.05}" --momentum 0.9 \
        --weight-decay 5e-4 --augment crop,flip --precision bf16 \
        --lr-schedule cosine --lr-rounds "$rounds" $encoding ${OPTIONS:-}
    # The first mean of fresh networks destroys what each has learned: begin with one of them.
    fedcli run --run "$run" --rounds 1 --clients-per-round "$start" --threads "${THREADS:-1}"
    fedcli run --run "$run" --rounds "$rounds" --jobs "${JOBS:-2}" --threads "${THREADS:-1}"
    runs="$runs $run"
done

# shellcheck disable=SC2086
fedcli report $runs --target 0.897 --html report.html --csv report.csv
