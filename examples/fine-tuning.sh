#!/bin/sh
# Fine-tuning for pictures of two classes in folders: a ResNet-18 that was trained on something
# else gets a new last layer. Three runs train all of it, the last layer alone, and low-rank adapters
# (LoRA) with the last layer. The report compares accuracy and the bytes that were sent.
#
# Usage: sh examples/fine-tuning.sh [PICTURES] [FOLDER]
#   PICTURES  a folder with one folder per class; without it, or with '', stand-ins are drawn
#   FOLDER    where the runs go, by default ./fine-tuning
# ROUNDS, IMAGE_SIZE, COUNT (pictures of each class to draw), WARM_UP and EPOCHS (pictures that the
# network is trained on first, and how often) are read from the environment. With PRETRAINED=1 it
# starts from torchvision's ImageNet weights instead, which torchvision downloads.
set -eu
. "$(dirname -- "$0")/setup.sh"
examples=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
pictures=${1:+$(CDPATH='' cd -- "$1" && pwd)}
mkdir -p "${2:-fine-tuning}"
cd "${2:-fine-tuning}"
size=${IMAGE_SIZE:-64}

if [ -z "$pictures" ]; then
    pictures=scans
    python "$examples/draw_scans.py" scans --pictures "${COUNT:-300}" --size "$size"
fi
if [ "${PRETRAINED:-0}" = 1 ]; then
    start=--pretrained
else
    # Of BatchNorm, frozen layers keep the statistics of the pictures before, and shapes are far from
    # scans; GroupNorm has none.
    fedcli partition --run warm-up --model resnet18 --norm group --clients 1 \
        --epochs "${EPOCHS:-3}" ${WARM_UP:+--limit "$WARM_UP"}
    fedcli run --run warm-up --rounds 1
    start='--norm group --init-from warm-up/rounds/0001/global.safetensors'
fi

fine_tune() { # NAME [OPTION]...: three clients train for some rounds
    run=$1
    shift
    # shellcheck disable=SC2086 # $start is a list of words
    fedcli partition --run "$run" --dataset "imagefolder:$pictures" --image-size "$size" \
        --clients 3 --model resnet18 $start --epochs 1 --batch-size 16 --lr 0.01 "$@"
    fedcli run --run "$run" --rounds "${ROUNDS:-3}"
}
fine_tune all
fine_tune last-layer --freeze '*,!fc'
fine_tune lora --lora 8
fedcli report all last-layer lora --html report.html --markdown report.md
