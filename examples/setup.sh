# Sourced by the other scripts: puts the command `fedcli` on the PATH, from a virtual environment
# that it creates if there is none. FEDCLI_VENV says where (by default .venv beside this folder), and
# PYTHON with which interpreter.
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
FEDCLI_VENV=${FEDCLI_VENV:-$root/.venv}
if [ ! -x "$FEDCLI_VENV/bin/fedcli" ]; then
    echo "installing fedcli into $FEDCLI_VENV (torch is large: this takes a few minutes)" >&2
    "${PYTHON:-python3}" -m venv "$FEDCLI_VENV"
    "$FEDCLI_VENV/bin/python" -m pip install --quiet --editable "$root[plots]"
fi
PATH=$FEDCLI_VENV/bin:$PATH
export PATH
