#!/bin/sh
# All checks, in a virtual environment of their own: lint, format, types, imports, tests, docs,
# examples. FEDCLI_VENV says where to create it (by default .venv-test in the checkout), PYTHON with
# which interpreter. Root on Debian gets Chromium, an OpenSSH server, Slurm and make, which the tests
# of the HTML page, of remotes, and of engines and schedulers need.
# FEDCLI_THOROUGH=1 runs every campaign whole; otherwise a sample of it runs.
set -eu
cd "$(dirname -- "$0")/.."
# Of what is installed, only what is imported is compiled, and once.
unset PYTHONDONTWRITEBYTECODE
venv=${FEDCLI_VENV:-.venv-test}
trap wait EXIT # nothing that was started here goes on after it

# The S3 server is a program beside the tests: it needs other versions of what s3fs needs.
install_servers() {
    [ -x "$venv/servers/bin/python" ] && return
    "$venv/bin/python" -m venv "$venv/servers"
    "$venv/servers/bin/python" -m pip install --quiet --no-compile 'moto[s3,server]>=5.1' ||
        { rm -rf "$venv/servers"; echo "no moto: the tests of remotes in S3 are skipped" >&2; }
}

# Snakemake needs half a hundred packages that nothing else does.
install_schedulers() {
    [ -x "$venv/schedulers/bin/snakemake" ] && return
    "$venv/bin/python" -m venv "$venv/schedulers"
    "$venv/schedulers/bin/python" -m pip install --quiet --no-compile 'snakemake>=9' ||
        { rm -rf "$venv/schedulers"; echo "no Snakemake: the test of its workflow is skipped" >&2; }
}

# debian SKIPPED PROGRAM PACKAGE…: install what PROGRAM needs where it is not and where that may be
debian() {
    skipped=$1 program=$2
    shift 2
    PATH=$PATH:/usr/sbin command -v "$program" >/dev/null && return
    command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ] || return 0
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes \
        --no-install-recommends "$@"; } >/dev/null 2>&1 || echo "$skipped are skipped" >&2
}

install_programs() {
    install_servers
    install_schedulers
    debian "no Chromium: the tests of the page in a browser" chromedriver chromium chromium-driver
    debian "no OpenSSH server: the tests of remotes over SFTP" sshd openssh-server openssh-client
    debian "no Slurm: the tests of steps in its jobs" slurmctld slurm-wlm munge make
}

if [ ! -x "$venv/bin/python" ]; then
    echo "installing into $venv, which takes minutes: torch is large, up to 5.4 GB" >&2
    "${PYTHON:-python3}" -m venv "$venv"
fi
install_programs &
programs=$!
"$venv/bin/python" -m pip install --quiet --no-compile --editable '.[dev]'
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/lint-imports" --no-logo --no-cache
wait "$programs"
"$venv/bin/mypy" >"$venv/mypy.log" 2>&1 & # has one core, the tests have two
types=$!
status=0
"$venv/bin/pytest" --numprocesses 2 --dist worksteal "$@" || status=$?
wait "$types" || status=1
cat "$venv/mypy.log"
exit "$status"
