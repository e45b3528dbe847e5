#!/bin/sh
# Five hospitals train on their own pictures, and nobody has to be believed:
#   signed    each update and each global model, so that nobody can forge one
#   masked    secure aggregation: the coordinator reads the sum of the updates, and no single one
#   private   each example is protected from everybody by noise that its hospital adds (DP-SGD)
#   encoded   the way down in int8, and up half of the coordinates, the same ones for all: masks leave
#             no other encoding. The last layer alone is trained, which makes updates small
# Usage: sh examples/private-study.sh [FOLDER]; everything is made in FOLDER.
# PICTURES (of each class at each hospital), WARM_UP (pictures that the network learns from first),
# ROUNDS, EPSILON and DELTA are read from the environment. HIDE_HOSPITALS holds options that protect
# whole hospitals too, such as '--update-clip 1 --update-noise 1', and which go without the encoding
# up: with so few hospitals, the noise drowns what is learned.
set -eu
. "$(dirname -- "$0")/setup.sh"
examples=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
mkdir -p "${1:-private-study}"
cd "${1:-private-study}"
hospitals='mercy st-olav charite bellevue necker'
rounds=${ROUNDS:-3}

# Stand-ins for scans, one folder per hospital with one sub-folder per class; use your own instead.
for place in $hospitals reference; do
    python "$examples/draw_scans.py" "$place" --pictures "${PICTURES:-120}" --size 32
done

# Weights to start from: of a network that has learned from pictures that are no secret.
fedcli partition --run warm-up --model cnn --clients 1 --epochs 2 --limit "${WARM_UP:-2000}"
fedcli run --run warm-up --rounds 1 --no-evaluate

# Each party makes its keys, keeps them to itself, and sends the line that keygen prints.
for party in $hospitals coordinator; do
    [ -e "$party.key" ] || fedcli keygen "$party.key"
done
for hospital in $hospitals; do
    [ -e "$hospital.noise" ] || fedcli keygen --noise "$hospital.noise"
done

# The coordinator makes the run; it holds no pictures. A budget belongs to data, not to this run:
# each hospital keeps its ledger in its own folder, and stops where its limit is.
set --
for hospital in $hospitals; do
    set -- "$@" --member "$hospital=$(fedcli keygen --show "$hospital.key")"
done
# shellcheck disable=SC2086 # HIDE_HOSPITALS, or the encoding, is a list of words
fedcli init --run study "$@" --key coordinator.key --classes normal,nodule --image-size 32 \
    --model cnn --init-from warm-up/rounds/0001/global.safetensors --freeze '*,!out' \
    --epochs 3 --batch-size 60 --lr 0.5 \
    --dp example --clip 1 --target-epsilon "${EPSILON:-4}" --delta "${DELTA:-1e-4}" \
    --target-rounds "$rounds" --secagg --secagg-clip 1 --encode-global int8 \
    ${HIDE_HOSPITALS:---encode randk=0.5}

round=1
while [ "$round" -le "$rounds" ]; do
    # Each of these commands is typed at the hospital, where pictures and keys are.
    for hospital in $hospitals; do
        fedcli train-client --run study --id "$hospital" --data "$hospital" \
            --key "$hospital.key" --noise-key "$hospital.noise" --state "$hospital.state"
    done
    fedcli aggregate --run study --close --key coordinator.key
    # Four of the five are enough to open the sum.
    for hospital in mercy st-olav charite bellevue; do
        fedcli unmask --run study --id "$hospital" --key "$hospital.key"
    done
    fedcli aggregate --run study --key coordinator.key
    fedcli evaluate --run study --data reference --store # pictures that are no secret
    round=$((round + 1))
done

# What anybody can read from the files: what was spent, how good the model is, and that it follows
# from the updates and from nothing else. Training is not replayed here: it needs the pictures and
# the noise keys, which stay at the hospitals.
fedcli status --run study --privacy
fedcli report --run study --html report.html
fedcli verify --run study
fedcli verify --run study --replay
