#!/bin/sh
# All checks, in a virtual environment of their own: lint, format, types, imports, tests, docs,
# examples. FEDCLI_VENV says where to create it (by default .venv-test in the checkout), PYTHON with
# which interpreter. Root on Debian gets Chromium, an OpenSSH server, Slurm and make, which the tests
# of the HTML page, of remotes, and of engines and schedulers need.
# FEDCLI_THOROUGH=1 runs every campaign whole; otherwise a sample of it runs.
set -eu
cd "$(dirname -- "$0")/.."
venv=${FEDCLI_VENV:-.venv-test}
if [ ! -x "$venv/bin/python" ]; then
    echo "installing into $venv, which takes minutes: torch is large, up to 5.4 GB" >&2
    "${PYTHON:-python3}" -m venv "$venv"
fi
"$venv/bin/python" -m pip install --quiet --editable '.[dev]'
# The S3 server is a program beside the tests: it needs other versions of what s3fs needs.
if [ ! -x "$venv/servers/bin/python" ]; then
    "$venv/bin/python" -m venv "$venv/servers"
    "$venv/servers/bin/python" -m pip install --quiet 'moto[s3,server]>=5.1' ||
        { rm -rf "$venv/servers"; echo "no moto: the tests of remotes in S3 are skipped" >&2; }
fi
# Snakemake needs half a hundred packages that nothing else does.
if [ ! -x "$venv/schedulers/bin/snakemake" ]; then
    "$venv/bin/python" -m venv "$venv/schedulers"
    "$venv/schedulers/bin/python" -m pip install --quiet 'snakemake>=9' ||
        { rm -rf "$venv/schedulers"; echo "no Snakemake: the test of its workflow is skipped" >&2; }
fi
if ! command -v chromedriver >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes \
        --no-install-recommends chromium chromium-driver; } >/dev/null 2>&1 ||
        echo "no Chromium: the tests of the page in a browser are skipped" >&2
fi
if [ ! -x /usr/sbin/sshd ] && command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes \
        --no-install-recommends openssh-server openssh-client; } >/dev/null 2>&1 ||
        echo "no OpenSSH server: the tests of remotes over SFTP are skipped" >&2
fi
if ! command -v slurmctld >/dev/null && [ ! -x /usr/sbin/slurmctld ] &&
    command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes \
        --no-install-recommends slurm-wlm munge make; } >/dev/null 2>&1 ||
        echo "no Slurm: the tests of steps in its jobs are skipped" >&2
fi
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/mypy"
"$venv/bin/lint-imports" --no-logo --no-cache
"$venv/bin/pytest" --numprocesses 2 --dist worksteal "$@"
