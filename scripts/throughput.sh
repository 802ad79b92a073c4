#!/usr/bin/env bash
# Measures the whole path with the release build: a file of N lines (default 1,000,000) through agent, collector,
# Redis (fsync for each acknowledgement) and workers into Postgres, all on this machine. Prints events per second
# from the moment that everything is ready, CPU seconds and peak memory of each process (Postgres: CPU of all its
# processes, memory of the largest), and checks the count.
#
# usage: scripts/throughput.sh [LINES]
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
setup_run
lines=${1:-1000000}
cargo build --quiet --release --locked -p logweir -p logweir-agent -p logweir-collector -p logweir-worker

dir=$(mktemp -d /tmp/logweir-throughput.XXXXXX)
chmod 755 "$dir"
up=
cleanup() { [ -z "$up" ] || { kill -TERM "$up" 2>/dev/null || true; wait "$up" || true; }; rm -rf "$dir"; }
trap cleanup EXIT

mkdir "$dir/logs"
awk -v n="$lines" -v now="$(date +%s)" 'BEGIN {
  split("debug info info info info info warn error", level, " ")
  for (i = 0; i < n; i++)
    printf "{\"timestamp\":%d000,\"service\":\"svc-%d\",\"level\":\"%s\",\"message\":\"request %d served in %d ms\",\"path\":\"/api/v1/items/%d\"}\n",
      now - 600 + int(i * 600 / n), i % 10, level[i % 8 + 1], i, i % 97, i % 1000
}' >"$dir/logs/load.log"
say "file: $lines lines, $(stat -c %s "$dir/logs/load.log") bytes; machine: $(nproc) cores, $(uname -srm)"

# The file appears when everything is ready, so that start-up isn't measured.
mkdir "$dir/tail"
# The quota of one agent is lifted: it is not what is measured.
target/release/logweir up --data "$dir/data" --tail "$dir/tail/*.log" --ports-file "$dir/ports.json" \
  --collector-arg=--rate=1000000000 --collector-arg=--rate-bytes=100GiB >"$dir/up.log" 2>&1 &
up=$!
for _ in $(seq 300); do [ -s "$dir/ports.json" ] && break; kill -0 "$up" || { cat "$dir/up.log"; exit 1; }; sleep 0.1; done
json() { python3 -c 'import json,sys; d=json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$dir/ports.json" "$1"; }
postgres=$(json 'd["postgres"]')

count() { LOGWEIR_POSTGRES=$postgres target/release/logweir query --by level --since 1d --json | python3 -c 'import json,sys; print(sum(r["count"] for r in json.load(sys.stdin)))'; }
started=$(date +%s.%N)
mv "$dir/logs/load.log" "$dir/tail/load.log"
deadline=$((SECONDS + 300))
while counted=$(count); [ "$counted" -lt "$lines" ]; do
  [ "$SECONDS" -lt "$deadline" ] || { say "only $counted of $lines after 300 s"; exit 1; }
  sleep 0.2
done
ended=$(date +%s.%N)
python3 -c "s=$ended-$started; print(f'{$counted} events counted in {s:.2f} s: {$counted/s:,.0f} events/s')"

printf '%-12s %8s %12s %12s\n' process pid 'CPU s' 'peak MiB'
for name in agent collector worker redis postgres; do
  for pid in $(json "' '.join(map(str, d['pids']['$name'] if isinstance(d['pids']['$name'], list) else [d['pids']['$name']]))"); do
    # Postgres' work is done by its children, the workers' connections among them.
    family="$pid $(pgrep -d ' ' -P "$pid" || true)"
    ticks=0 peak=0
    for member in $family; do
      [ -r "/proc/$member/stat" ] || continue
      ticks=$((ticks + $(awk '{print $14 + $15 + $16 + $17}' "/proc/$member/stat")))
      this=$(awk '/VmHWM/ {print $2}' "/proc/$member/status")
      [ "$this" -le "$peak" ] || peak=$this
    done
    printf '%-12s %8s %12s %12s\n' "$name" "$pid" "$(python3 -c "print($ticks/$(getconf CLK_TCK))")" "$((peak / 1024))"
  done
done
[ "$counted" = "$lines" ] || { say "counted $counted, wrote $lines"; exit 1; }
