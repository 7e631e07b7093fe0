#!/bin/bash
# One run on all hosts of a Cloud TPU VM; the hosts find each other through Google's metadata.
#
#   TPU=my-tpu ZONE=us-east5-b FOLDER=/mnt/shared/kdjax \
#     launch/tpu-vm/run.sh --config=configs/mhd_imagenet.py --workdir=/mnt/shared/runs/imagenet
#
# FOLDER holds this repository, installed in its .venv, at the same place on every host.
set -eu

: "${TPU:?the name of the TPU VM}" "${ZONE:?its zone}" "${FOLDER:?this repository on every host}"

# The arguments are quoted once more, for the shell of the other side.
printf -v command 'cd %q && exec .venv/bin/python -m kdjax.main --distributed' "$FOLDER"
printf -v arguments ' %q' "$@"
exec gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$command$arguments"
