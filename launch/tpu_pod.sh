#!/usr/bin/env bash
# Trains on a slice of a Cloud TPU pod: the same command on every host, by gcloud.
#
#   export NAME=inception ZONE=us-east5-b
#   launch/tpu_pod.sh create     # TYPE and VERSION: see below; more flags of gcloud may follow, such as --spot
#   launch/tpu_pod.sh setup      # copies the last commit to all hosts and installs it
#   launch/tpu_pod.sh run --config=configs/googlenet.py --workdir=gs://my-bucket/googlenet
#   launch/tpu_pod.sh log        # follows a run from elsewhere; it does not need this connection
#   launch/tpu_pod.sh stop       # SIGTERM: the run saves; `run` with the same arguments resumes
#   launch/tpu_pod.sh delete
#
# The VMs' service account must be able to read and write the bucket. A slice that was reclaimed is created again, and
# `run` resumes.
set -euo pipefail
cd "$(dirname "$0")/.."

TYPE=${TYPE:-v6e-16}                # 16 chips: 4 hosts
VERSION=${VERSION:-v2-alpha-tpuv6e} # the runtime of this type; v5litepod-16: v2-alpha-tpuv5-lite

usage() { sed -n '2,13s/^# \{0,1\}//p' "$0"; }
tpu_vm() { gcloud compute tpus tpu-vm "$@" --zone="${ZONE:?}"; }
on_all() { tpu_vm ssh "${NAME:?}" --worker=all --command="$1"; }

command=${1:-help}
[ $# -gt 0 ] && shift
case $command in
create) tpu_vm create "${NAME:?}" --accelerator-type="$TYPE" --version="$VERSION" "$@" ;;
setup)
    directory=$(mktemp -d)
    trap 'rm -r "$directory"' EXIT
    git archive --prefix=inception_jax/ --output="$directory/inception_jax.tar.gz" HEAD
    tpu_vm scp "$directory/inception_jax.tar.gz" "${NAME:?}:" --worker=all
    # The VMs' own Python is older than 3.11; uv brings one.
    on_all 'set -e
        tar -xzf inception_jax.tar.gz
        cd inception_jax
        python3 -m pip install --quiet --user uv
        [ -x .venv/bin/python ] || ~/.local/bin/uv venv --quiet --python 3.12 --seed .venv
        ./run.sh python -m pip install --quiet "jax[tpu]"'
    ;;
run)
    # nohup: the run outlives this connection.
    on_all "cd inception_jax || exit
        nohup .venv/bin/python main.py --distributed $(printf '%q ' "$@") >run.log 2>&1 </dev/null &
        echo \$! >run.pid
        tail --pid=\$! -n +1 -f run.log
        wait \$!"
    ;;
log) tpu_vm ssh "${NAME:?}" --worker=0 --command='tail -n 100 -f inception_jax/run.log' ;;
stop) on_all 'kill -TERM "$(cat inception_jax/run.pid)"' ;;
delete) tpu_vm delete "${NAME:?}" ;;
help | -h | --help) usage ;;
*)
    echo "error: unknown command '$command'" >&2
    usage >&2
    exit 2
    ;;
esac
