#!/usr/bin/env bash
# One run on all workers of a TPU slice of Google Cloud: asked for by a queued resource, and again when it is taken away.
#
#   export ZONE=us-east5-b TYPE=v6e-16 VERSION=v2-alpha-tpuv6e IMAGE=... SHARE=HOST:/PATH
#   launch/tpu_vm.sh NAME [--dry-run] --config=configs/NAME.py[:VARIANT] --workdir=/share/runs/NAME [--config.KEY=VALUE ...]
#
# IMAGE is what launch/Dockerfile made with the extra `tpu`; SHARE an NFS export such as Filestore's, seen as /share.
# SPOT="" asks for a slice that is not taken away. Ctrl-C stops the run, which saves. --dry-run prints the commands.
# The slice stays, and is paid for, until the command that is printed at the end deletes it.
set -u

usage="launch/tpu_vm.sh NAME [--dry-run] --config=FILE.py[:VARIANT] --workdir=/share/DIR [--config.KEY=VALUE ...]"
name=${1:-}
if [[ ! $name =~ ^[a-z][a-z0-9-]*$ ]]; then
  echo "error: the first argument is a name for the slice, as in: $usage" >&2
  exit 2
fi
shift
for key in ZONE TYPE VERSION IMAGE SHARE; do
  if [[ -z ${!key:-} ]]; then
    echo "error: $key is not set; see the first lines of $0" >&2
    exit 2
  fi
done
dry=""
args=()
for word in "$@"; do
  if [[ $word == --dry-run || $word == --dry_run ]]; then dry=yes; else args+=("$word"); fi
done

tpus=(gcloud compute tpus)
describe=("${tpus[@]}" queued-resources describe "$name" "--zone=$ZONE" "--format=value(state.state)")
create=("${tpus[@]}" queued-resources create "$name" "--node-id=$name" "--zone=$ZONE" "--accelerator-type=$TYPE"
  "--runtime-version=$VERSION" ${SPOT---spot})
delete=("${tpus[@]}" queued-resources delete "$name" "--zone=$ZONE" --force --quiet)
on_all=("${tpus[@]}" tpu-vm ssh "$name" "--zone=$ZONE" --worker=all --command)

# What a lost connection left running saves first. A spot slice has 30 s from the signal on.
stop="sudo docker stop -t 300 cxrjax >/dev/null 2>&1 || true"
mount="mountpoint -q /share || { sudo apt-get install -qy nfs-common && sudo mkdir -p /share && sudo mount $SHARE /share; }"
container=(sudo docker run --rm --name=cxrjax --init --privileged --net=host --stop-timeout=25 --volume=/share:/share
  "$IMAGE" "${args[@]}" --config.mesh.distributed=True)
run="set -e; $stop; $mount; $(printf '%q ' "${container[@]}")"

if [[ -n $dry ]]; then
  printf '%s\n' "${create[*]}" "${describe[*]}" "$(printf '%q ' "${on_all[@]}" "$run")" "${delete[*]}"
  exit 0
fi

# An existing slice is used; one that was taken away is given back, and asked for again.
active() {
  local state
  while true; do
    state=$("${describe[@]}" 2>/dev/null)
    case $state in
      ACTIVE) return ;;
      "") "${create[@]}" || return ;;
      SUSPENDED) "${delete[@]}" || return ;;
      FAILED) echo "error: $name: the request has failed; to ask anew: ${delete[*]}" >&2 && return 1 ;;
      *) echo "$name is $state" >&2 ;;
    esac
    sleep "${CXRJAX_WAIT:-30}"
  done
}

trap '"${on_all[@]}" "$stop"; exit 75' INT TERM
while true; do
  active || exit
  "${on_all[@]}" "$run"
  code=$?
  case $code in
    70 | 75 | 255) # a process is gone; stopped by a signal; the connection, with the machine behind it
      echo "$name: ended with $code, goes on" >&2
      sleep "${CXRJAX_WAIT:-30}" ;;
    *)
      echo "$name: ended with $code; to give the slice back: ${delete[*]}" >&2
      exit "$code" ;;
  esac
done
