#!/usr/bin/env bash
# A pod at home: the same command in several processes of this machine's processor, to try what several hosts would do.
#
#   launch/local.sh N [K] [--dry-run] --config=configs/NAME.py[:VARIANT] [--workdir=DIR] [--config.KEY=VALUE ...]
#
# N processes of K devices each (1), each with a log of its own. What process 0 says is shown. Ctrl-C and SIGTERM go to
# all. The exit code is the greatest of theirs; see launch/README.md.
set -u

usage="launch/local.sh N [K] [--dry-run] --config=FILE.py[:VARIANT] [--workdir=DIR] [--config.KEY=VALUE ...]"
if [[ ! ${1:-} =~ ^[1-9][0-9]*$ ]]; then
  echo "error: the first argument is the number of processes, as in: $usage" >&2
  exit 2
fi
count=$1
devices=1
shift
if [[ ${1:-} =~ ^[1-9][0-9]*$ ]]; then
  devices=$1
  shift
fi
dry=""
args=()
for word in "$@"; do
  if [[ $word == --dry-run || $word == --dry_run ]]; then dry=yes; else args+=("$word"); fi
done

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python}
port=${CXRJAX_PORT:-$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')}
# Without PJRT_NPROC several made devices wait for one another for ever on a machine of few cores.
export JAX_PLATFORMS=cpu PJRT_NPROC=${PJRT_NPROC:-16}
export XLA_FLAGS="${XLA_FLAGS:-} --xla_force_host_platform_device_count=$devices"

command=("$python" "$here/main.py" "${args[@]}" "--config.mesh.coordinator=127.0.0.1:$port"
  "--config.mesh.num_processes=$count")

if [[ -n $dry ]]; then
  for ((i = 0; i < count; i++)); do
    printf '%q ' "${command[@]}" "--config.mesh.process_id=$i"
    echo
  done
  exit 0
fi

logs=${CXRJAX_LOGS:-$(mktemp -d "${TMPDIR:-/tmp}/cxrjax-local-XXXXXX")}
mkdir -p "$logs"
pids=()
for ((i = 0; i < count; i++)); do
  "${command[@]}" "--config.mesh.process_id=$i" >"$logs/$i.log" 2>&1 &
  pids+=($!)
done
tail -n +1 -f "$logs/0.log" --pid="${pids[0]}" &
shown=$!
stopped=""
trap 'stopped=yes; kill -TERM "${pids[@]}" 2>/dev/null' TERM INT

worst=0
codes=()
for pid in "${pids[@]}"; do
  wait "$pid"
  code=$?
  while [[ -n $stopped ]] && ((code > 128)); do # a signal to this script ends `wait`, and not the process
    stopped=""
    wait "$pid"
    code=$?
  done
  codes+=("$code")
  ((code > worst)) && worst=$code
done
wait "$shown" 2>/dev/null
echo "$count processes ended with ${codes[*]}; logs: $logs" >&2
exit "$worst"
