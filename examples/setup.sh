# Sourced by the other scripts: puts the command `fedcli` on the PATH, from a virtual environment
# that it creates if there is none. FEDCLI_VENV says where (by default .venv beside this folder), and
# PYTHON with which interpreter. An environment of your own: FEDCLI_VENV=/path/to/it.
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
FEDCLI_VENV=${FEDCLI_VENV:-$root/.venv}
if [ ! -x "$FEDCLI_VENV/bin/fedcli" ]; then
    echo "Installing fedcli into $FEDCLI_VENV. torch is large, up to 5.4 GB with CUDA: this takes minutes." >&2
    [ -x "$FEDCLI_VENV/bin/python" ] || "${PYTHON:-python3}" -m venv "$FEDCLI_VENV"
    if ! command -v nvidia-smi >/dev/null && ! "$FEDCLI_VENV/bin/python" -c 'import torch' 2>/dev/null; then
        # CUDA is of no use without a GPU. Some package indexes offer builds without it.
        cpu=$("$FEDCLI_VENV/bin/python" -m pip index versions torch 2>/dev/null |
            tr -s ', ' '\n\n' | grep -m 1 '+cpu$') || cpu=
        [ -z "$cpu" ] || "$FEDCLI_VENV/bin/python" -m pip install "torch==$cpu" torchvision >&2
    fi
    "$FEDCLI_VENV/bin/python" -m pip install --editable "$root[plots]" >&2
fi
PATH=$FEDCLI_VENV/bin:$PATH
export PATH
