#!/usr/bin/env bash
# Trains on TPU slices of a GKE cluster that xpk created (https://github.com/AI-Hypercomputer/xpk); all arguments go to
# main.py:
#
#   export CLUSTER=my-cluster ZONE=us-east5-b IMAGE=my-image
#   launch/xpk.sh --config=configs/googlenet.py --workdir=gs://my-bucket/googlenet
#
# IMAGE comes from launch/Dockerfile with ACCELERATOR=tpu and USER_ID=0: xpk does not choose the user of a container,
# and the TPU's device files belong to root. Delete the workload (SIGTERM) and run this again to resume.
set -euo pipefail

# exec: xpk sends SIGTERM to the shell that it starts, which must be Python itself by then.
xpk workload create \
    --workload="${NAME:-inception}" \
    --cluster="${CLUSTER:?}" \
    --zone="${ZONE:?}" \
    --tpu-type="${TYPE:-v6e-16}" \
    --num-slices="${SLICES:-1}" \
    --docker-image="${IMAGE:?}" \
    --max-restarts="${RESTARTS:-100}" \
    --termination-grace-period-seconds=120 \
    --command="exec python main.py --distributed $(printf '%q ' "$@")"
