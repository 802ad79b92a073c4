#!/bin/sh
# Posts each FILE of events (NDJSON, one event a line) as one batch, with nothing but curl.
#
#   LOGWEIR_URL=http://127.0.0.1:4801 ./curl.sh events.ndjson…
#   LOGWEIR_TOKEN=…   the agent's token, where the collector asks for one
#   LOGWEIR_AGENT=…   the agent's name, where it doesn't
#
# curl's own --retry waits as long as Retry-After says, and otherwise doubles its wait. It adds no jitter: the collector
# spreads its Retry-After among agents. Each file has one Idempotency-Key for all attempts, so that one whose answer
# got lost isn't counted again. A batch may have at most 10,000 events and 4 MiB; logweir-post.sh cuts by itself.
#
# Exit codes: 0 all taken, 1 some event was rejected, 2 wrong usage, 3 not taken.
set -eu
[ $# -gt 0 ] || { echo "usage: LOGWEIR_URL=http://host:4801 $0 FILE…" >&2; exit 2; }

answer=$(mktemp)
trap 'rm -f "$answer"' EXIT
code=0
for file in "$@"; do
  # On standard input, where no list of processes shows it.
  status=$({
    [ -z "${LOGWEIR_TOKEN:-}" ] || printf 'Authorization: Bearer %s\n' "$LOGWEIR_TOKEN"
    [ -z "${LOGWEIR_AGENT:-}" ] || printf 'Logweir-Agent: %s\n' "$LOGWEIR_AGENT"
    printf 'Idempotency-Key: %s\n' "$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')"
    printf 'Content-Type: application/x-ndjson\n'
  } | curl --silent --show-error --header @- --data-binary "@$file" --max-time 30 \
    --retry 1000 --retry-all-errors --retry-max-time 3600 \
    --output "$answer" --write-out '%{http_code}' "${LOGWEIR_URL:-http://127.0.0.1:4801}/v1/events") || status=none
  case $status in
    202) grep -q '"rejected":\[\]' "$answer" || { code=1; cat "$answer" >&2; echo >&2; } ;;
    422) code=1; cat "$answer" >&2; echo >&2 ;;
    *) echo "$file was not taken ($status): $(cat "$answer")" >&2; exit 3 ;;
  esac
done
exit $code
