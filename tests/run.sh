#!/bin/sh
# All checks, in a virtual environment of their own: lint, format, types, tests, docs, examples.
# FEDCLI_VENV says where it is made (by default .venv-test in the checkout), PYTHON what makes it.
set -eu
cd "$(dirname -- "$0")/.."
venv=${FEDCLI_VENV:-.venv-test}
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --editable '.[dev]'
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/mypy"
"$venv/bin/pytest" --numprocesses 2 --dist worksteal "$@"
