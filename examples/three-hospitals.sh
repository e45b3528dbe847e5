#!/bin/sh
# Three hospitals with their own pictures, which stay where they are: two classes, and a
# ResNet-18 that starts from given weights with a new last layer.
# Usage: sh examples/three-hospitals.sh [FOLDER]; everything is made in FOLDER.
set -eu
. "$(dirname -- "$0")/setup.sh"
examples=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
mkdir -p "${1:-three-hospitals}"
cd "${1:-three-hospitals}"
size=${IMAGE_SIZE:-64}

# Stand-ins for scans, one folder per hospital with one sub-folder per class; use your own instead.
for hospital in mercy st-olav charite; do
    python "$examples/draw_scans.py" "$hospital" --pictures "${PICTURES:-120}" --size "$size"
done
python "$examples/draw_scans.py" reference --pictures "${PICTURES:-120}" --size "$size"

# Weights to start from: here those of a model of ten classes, trained briefly.
fedcli partition --run warm-up --model resnet18 --clients 1 --limit "${WARM_UP:-1000}" --epochs 1
fedcli run --run warm-up --rounds 1

# The coordinator makes the run; it holds no pictures.
fedcli init --run study --model resnet18 --classes normal,nodule --image-size "$size" \
    --clients mercy,st-olav,charite --init-from warm-up/rounds/0001/global.safetensors \
    --epochs 2 --lr 0.005

for round in 1 2; do
    # Each of these three commands is typed at the hospital, where the pictures are.
    fedcli train-client --run study --id mercy --data mercy
    fedcli train-client --run study --id st-olav --data st-olav
    fedcli train-client --run study --id charite --data charite
    fedcli aggregate --run study
    fedcli evaluate --run study --data reference --round "$round"
done
fedcli evaluate --run study --data reference --id mercy
fedcli report --run study
