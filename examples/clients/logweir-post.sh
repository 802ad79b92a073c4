#!/bin/sh
# Posts events from standard input (NDJSON, one event a line) in batches: POSIX shell, curl, and the usual small tools.
#
#   tail -F app.ndjson | LOGWEIR_URL=http://127.0.0.1:4801 ./logweir-post.sh
#   LOGWEIR_TOKEN=…   the agent's token, where the collector asks for one
#   LOGWEIR_AGENT=…   the agent's name, where it doesn't
#   LOGWEIR_BATCH=500 events in a batch
#
# Each run is a producer that numbers its events 1, 2, 3, …; a batch that is sent again, whole or in halves, bears the
# same numbers and so is counted once. It is tried for ever: as the collector says when it says when, else with a wait
# that doubles up to 60 s. What can't be counted goes to standard error with its reason.
#
# Exit codes: 0 all taken, 1 some event was rejected, 3 the collector doesn't let us in.
set -eu
url=${LOGWEIR_URL:-http://127.0.0.1:4801}/v1/events
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
producer=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n' | sed 's/^\(.\{8\}\)\(....\).\(...\).\(...\)\(.*\)$/\1-\2-4\3-8\4-\5/')
seq=1
code=0

# Seconds with three digits: $1 milliseconds, and up to $2 thousandths of them more, by chance.
wait_ms() {
  random=$(od -An -N2 -tu2 /dev/urandom)
  pause=$(awk -v ms="$1" -v more="$2" -v r="$random" 'BEGIN { printf "%.3f", ms / 1000 * (1 + more / 1000 * r / 65536) }')
  # Some sleeps know whole seconds only.
  sleep "$pause" 2>/dev/null || sleep $((${pause%.*} + 1))
}

# How long to wait before attempt $1 + 1.
wait_for_next() {
  ms=$(sed -n 's/.*"retry_after_ms":\([0-9]*\).*/\1/p' "$work/answer")
  if [ -z "$ms" ]; then
    seconds=$(sed -n 's/^[Rr]etry-[Aa]fter: *\([0-9]*\).*/\1/p' "$work/headers" | tail -n 1)
    ms=${seconds:+${seconds}000}
  fi
  if [ -n "$ms" ]; then
    # A quarter more at most, so that not all come at once.
    wait_ms "$ms" 250
  else
    doublings=$(($1 < 9 ? $1 : 9))
    most=$((200 << doublings))
    # Anything between nothing and that.
    wait_ms 1 $(((most < 60000 ? most : 60000) * 1000))
  fi
}

# Posts the lines of $1, which begin with the number $2, until somebody has decided about them.
post() {
  attempt=0
  while :; do
    : >"$work/answer"
    : >"$work/headers"
    status=$({
      [ -z "${LOGWEIR_TOKEN:-}" ] || printf 'Authorization: Bearer %s\n' "$LOGWEIR_TOKEN"
      [ -z "${LOGWEIR_AGENT:-}" ] || printf 'Logweir-Agent: %s\n' "$LOGWEIR_AGENT"
      printf 'Logweir-Batch: %s/%s\nContent-Type: application/x-ndjson\n' "$producer" "$2"
    } | curl --silent --header @- --data-binary "@$1" --max-time 30 --dump-header "$work/headers" \
      --output "$work/answer" --write-out '%{http_code}' "$url") || status=none
    case $status in
      202) grep -q '"rejected":\[\]' "$work/answer" || rejected "$1"; return ;;
      400 | 415 | 422) rejected "$1"; return ;;
      413) halve "$1" "$2"; return ;;
      408 | 429 | 5?? | none) wait_for_next "$attempt"; attempt=$((attempt + 1)) ;;
      *) echo "not taken ($status): $(cat "$work/answer")" >&2; exit 3 ;;
    esac
  done
}

rejected() {
  code=1
  echo "rejected: $(cat "$work/answer")" >&2
}

halve() {
  lines=$(wc -l <"$1")
  [ "$lines" -gt 1 ] || { rejected "$1"; return 0; }
  half=$((lines / 2))
  head -n "$half" "$1" >"$1.a"
  tail -n +$((half + 1)) "$1" >"$1.b"
  # In shells of their own, since there are no local variables.
  (code=0; post "$1.a" "$2"; exit $code) || failed $?
  (code=0; post "$1.b" $(($2 + half)); exit $code) || failed $?
  rm -f "$1.a" "$1.b"
}

failed() {
  [ "$1" = 1 ] || exit "$1"
  code=1
}

flush() {
  [ "$count" -gt 0 ] || return 0
  post "$work/batch" "$seq"
  seq=$((seq + count))
  count=0
  : >"$work/batch"
}

count=0
cr=$(printf '\r')
: >"$work/batch"
while IFS= read -r line || [ -n "$line" ]; do
  # Blank lines take no number.
  case $line in *[!\ \	"$cr"]*) ;; *) continue ;; esac
  printf '%s\n' "$line" >>"$work/batch"
  count=$((count + 1))
  [ "$count" -lt "${LOGWEIR_BATCH:-500}" ] || flush
done
flush
exit $code
