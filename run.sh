#!/usr/bin/env bash
# Sets up the environment once (.venv), then runs a command in it:
#   ./run.sh                     the demo: trains on real digits, ends with the accuracy and a report
#   ./run.sh demo --config.seed=1 --workdir=runs/digits1   the same with flags of main.py
#   ./run.sh train --config=... --workdir=...
#   ./run.sh test [ARGS]         the core test suite; ARGS go to pytest (-k NAME, paths)
#   ./run.sh test parity [ARGS]  the tests that compare with PyTorch, Keras and others (a large download)
#   ./run.sh lint                style, format and types
#   ./run.sh docs                the documentation, into site/
#   ./run.sh python ...          anything else in the environment
set -euo pipefail
cd "$(dirname "$0")"

usage() { sed -n '2,10s/^# \{0,1\}//p' "$0"; }

find_python() {
    for python in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
        if [ -n "$python" ] && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
    echo "error: Python 3.11 or newer is required; set PYTHON=/path/to/python" >&2
    exit 2
}

# Installs a requirements file. A stamp holds the checksum of what was installed, so that a change is noticed.
install() {
    local requirements=$1 stamp=".venv/.$1.installed" wanted
    wanted=$(cat pyproject.toml requirements.txt "$requirements" | cksum)
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then return; fi
    if [ ! -x .venv/bin/python ]; then "$(find_python)" -m venv .venv; fi
    echo "installing $requirements into .venv (once, a few minutes)" >&2
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$requirements"
    echo "$wanted" >"$stamp"
}

command=${1:-demo}
[ $# -gt 0 ] && shift
case $command in
demo)
    install requirements.txt
    exec .venv/bin/python main.py --config=configs/digits.py --workdir=runs/digits "$@"
    ;;
train)
    install requirements.txt
    exec .venv/bin/python main.py "$@"
    ;;
test)
    install requirements-dev.txt
    # One worker runs all tests of a file, because they share what was traced or trained once.
    workers=(-n auto --maxprocesses=4 --dist=loadfile)
    if [ "${1:-}" = parity ]; then
        install requirements-bench.txt
        exec .venv/bin/python -m pytest tests/parity "${workers[@]}" "${@:2}"
    fi
    exec .venv/bin/python -m pytest "${workers[@]}" "$@"
    ;;
lint)
    install requirements-dev.txt
    .venv/bin/python -m ruff check .
    .venv/bin/python -m ruff format --check .
    exec .venv/bin/python -m mypy
    ;;
docs)
    install requirements-docs.txt
    NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict
    echo "site/index.html"
    ;;
python)
    install requirements.txt
    exec .venv/bin/python "$@"
    ;;
-h | --help | help)
    usage
    ;;
*)
    echo "error: unknown command '$command'" >&2
    usage >&2
    exit 2
    ;;
esac
