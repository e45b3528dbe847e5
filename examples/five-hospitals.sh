#!/bin/sh
# Five hospitals without any network between them. What has to travel is one file, on a memory stick:
# round-N.zip from the coordinator to all, from-HOSPITAL-N.zip back. All of it is signed. Each round is
# three commands at a hospital and three at the coordinator; at the end the script counts them.
# Usage: sh examples/five-hospitals.sh [FOLDER]; everything is made in FOLDER.
# ROUNDS and PICTURES (of each class at each hospital) are read from the environment.
set -eu
. "$(dirname -- "$0")/setup.sh"
examples=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
mkdir -p "${1:-five-hospitals}"
cd "${1:-five-hospitals}"
home=$PWD
hospitals='mercy st-olav charite bellevue necker'
rounds=${ROUNDS:-10}

# Each party has a directory of its own, which stands for its computer, and sees no other one.
mkdir -p stick coordinator
for hospital in $hospitals; do
    mkdir -p "$hospital"
done

# at PARTY COMMAND...: types a command at a party, and notes it.
at() {
    party=$1
    shift
    echo "$party: $*"
    echo "$party" >> "$home/typed"
    (cd "$home/$party" && "$@")
}
: > typed

# Stand-ins for scans, one sub-folder per class; use your own instead.
for place in $hospitals coordinator; do
    (cd "$place" && python "$examples/draw_scans.py" "$place" --pictures "${PICTURES:-60}" --size 32)
    mv "$place/$place" "$place/scans"
done

# Once: everybody makes a key and sends the line that keygen prints, by mail or on the telephone.
set --
for hospital in $hospitals; do
    [ -e "$hospital/my.key" ] || at "$hospital" fedcli keygen my.key
    set -- "$@" --member "$hospital=$(cd "$hospital" && fedcli keygen --show my.key)"
done
[ -e coordinator/my.key ] || at coordinator fedcli keygen my.key
at coordinator fedcli init "$@" --key my.key --classes normal,nodule --image-size 32 --model cnn \
    --epochs 2 --lr 0.02
at coordinator fedcli push ../stick/round-1.zip
once=$(wc -l < typed)

round=1
while [ "$round" -le "$rounds" ]; do
    for hospital in $hospitals; do
        at "$hospital" fedcli pull "../stick/round-$round.zip" --id "$hospital"
        at "$hospital" fedcli train-client --id "$hospital" --data scans --key my.key
        at "$hospital" fedcli push "../stick/from-$hospital-$round.zip"
    done
    at coordinator fedcli pull ../stick/from-*-"$round".zip
    at coordinator fedcli aggregate --key my.key
    round=$((round + 1))
    at coordinator fedcli push "../stick/round-$round.zip"
done

# What anybody can check who has the coordinator's directory, and how good the model is.
(cd coordinator && fedcli verify && fedcli evaluate --data scans && fedcli report)
echo "typed once, by all together: $once commands"
for party in coordinator $hospitals; do
    count=$(tail -n "+$((once + 1))" typed | grep -c "^$party\$")
    echo "typed by $party in $rounds rounds: $count commands, $((count / rounds)) a round"
done
