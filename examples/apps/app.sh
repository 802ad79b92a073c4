#!/bin/sh
# A simulated application: writes log lines of its own style to a file at a steady pace, rotates that file
# by renaming it, and keeps its own count for each level, so that one can compare it with what was counted.
#
# usage: app.sh checkout|payments|search DIRECTORY [LINES_PER_SECOND] [SECONDS]
#   checkout writes JSON lines with the wire's own field names, payments text lines with a time and a level,
#   search JSON lines as many loggers write them (ts in seconds, severity, msg).
#   Without SECONDS it runs until it gets SIGTERM. DIRECTORY/NAME.count holds the count, level by level.
set -eu

app=${1:?which app? checkout, payments or search}
dir=${2:?which directory?}
rate=${3:-20}
seconds=${4:-0}
# At least 20 seconds' worth in each file, and two old ones are kept: a reader that was held back finds them.
rotate_after=$((rate * 20))
[ "$rotate_after" -ge 2000 ] || rotate_after=2000

log=$dir/$app.log
count=$dir/$app.count
debug=0 info=0 warn=0 error=0 lines=0 n=0

# An app that is started again goes on with its count.
if [ -f "$count" ]; then
  while read -r level value; do
    case $level in debug) debug=$value ;; info) info=$value ;; warn) warn=$value ;; error) error=$value ;; esac
  done <"$count"
fi

save() { printf 'debug %s\ninfo %s\nwarn %s\nerror %s\n' "$debug" "$info" "$warn" "$error" >"$count.new" && mv "$count.new" "$count"; }

stop=no
trap 'stop=yes' TERM INT

ends=0
[ "$seconds" = 0 ] || ends=$(($(date +%s) + seconds))

while [ "$stop" = no ]; do
  # One look at the clock for a second's worth of lines; what comes inside a line forks nothing.
  now=$(date -u '+%Y-%m-%d %H:%M:%S %3N %s')
  day=${now%% *} now=${now#* }
  time=${now%% *} now=${now#* }
  ms=${now%% *} epoch=${now#* }
  [ "$ends" = 0 ] || [ "$epoch" -lt "$ends" ] || break
  i=0
  while [ "$i" -lt "$rate" ]; do
    n=$((n + 1)) i=$((i + 1))
    case $((n % 20)) in
      0) level=error upper=ERROR error=$((error + 1)) text="upstream timed out" ;;
      1 | 2) level=warn upper=WARN warn=$((warn + 1)) text="slow answer" ;;
      3 | 4 | 5) level=debug upper=DEBUG debug=$((debug + 1)) text="cache looked up" ;;
      *) level=info upper=INFO info=$((info + 1)) text="request served" ;;
    esac
    case $app in
      checkout) printf '{"timestamp":"%sT%s.%sZ","service":"checkout","level":"%s","message":"%s","order":%s}\n' "$day" "$time" "$ms" "$level" "$text" "$n" ;;
      payments) printf '%s %s,%s+00:00 %s [worker-%s] %s id=%s\n' "$day" "$time" "$ms" "$upper" $((n % 4)) "$text" "$n" ;;
      search) printf '{"ts":%s.%s,"severity":"%s","msg":"%s","query":%s}\n' "$epoch" "$ms" "$level" "$text" "$n" ;;
      *) echo "unknown app: $app" >&2; exit 2 ;;
    esac
  done >>"$log"
  lines=$((lines + rate))
  save
  if [ "$lines" -ge "$rotate_after" ]; then
    [ ! -f "$log.1" ] || mv "$log.1" "$log.2"
    mv "$log" "$log.1"
    lines=0
  fi
  # A signal ends the wait, not the script.
  sleep 1 || true
done
save
