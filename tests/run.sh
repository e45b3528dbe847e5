#!/bin/sh
# All checks, in a virtual environment of their own: lint, format, types, imports, tests, docs,
# examples. FEDCLI_VENV says where it is made (by default .venv-test in the checkout), PYTHON what
# makes it. FEDCLI_THOROUGH=1 runs all of every campaign, where a sample of it is run otherwise.
set -eu
cd "$(dirname -- "$0")/.."
venv=${FEDCLI_VENV:-.venv-test}
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
echo "installing into $venv; the first time this takes minutes: torch is large, up to 5.4 GB" >&2
"$venv/bin/python" -m pip install --quiet --editable '.[dev]'
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/mypy"
"$venv/bin/lint-imports" --no-logo --no-cache
"$venv/bin/pytest" --numprocesses 2 --dist worksteal "$@"
