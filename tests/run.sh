#!/bin/sh
# All checks, in a virtual environment of their own: lint, format, types, imports, tests, docs,
# examples. FEDCLI_VENV says where to create it (by default .venv-test in the checkout), PYTHON with
# which interpreter. FEDCLI_THOROUGH=1 runs every campaign whole; otherwise a sample of it runs.
set -eu
cd "$(dirname -- "$0")/.."
venv=${FEDCLI_VENV:-.venv-test}
if [ ! -x "$venv/bin/python" ]; then
    echo "installing into $venv, which takes minutes: torch is large, up to 5.4 GB" >&2
    "${PYTHON:-python3}" -m venv "$venv"
fi
"$venv/bin/python" -m pip install --quiet --editable '.[dev]'
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/mypy"
"$venv/bin/lint-imports" --no-logo --no-cache
"$venv/bin/pytest" --numprocesses 2 --dist worksteal "$@"
