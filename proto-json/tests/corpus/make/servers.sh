#!/bin/bash
# Writes what nginx, Postgres, Redis and logger(1) write, and beside each file the minute and level of each of its events.
#     servers.sh DIRECTORY          needs nginx, initdb and postgres, redis-server, logger, curl, python3 on the PATH
set -eu
out=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
minute() { date -u +%Y-%m-%dT%H:%MZ; }
expect() { local name=$1 level; shift; for level; do echo "$(minute) $level"; done >> "$out/$name.expected"; }
cd "$out"
rm -f nginx-*.* postgres.* redis.* logger-*.*

# nginx: an access log in the combined format, and the error log of its workers.
cat > "$tmp/nginx.conf" <<CONF
daemon off; pid $tmp/pid; error_log $out/nginx-error.log info; events {}
http {
  access_log $out/nginx-access.log combined;
  client_body_temp_path $tmp/a; proxy_temp_path $tmp/b; fastcgi_temp_path $tmp/c; uwsgi_temp_path $tmp/d; scgi_temp_path $tmp/e;
  server {
    listen 127.0.0.1:48080; root $tmp;
    location /ok { return 200; } location /moved { return 301 /ok; } location /broken { return 500; }
    location /away { proxy_pass http://127.0.0.1:1; }
  }
}
CONF
: > nginx-error.log
nginx -p "$tmp" -c "$tmp/nginx.conf" 2>/dev/null & nginx=$!
until curl -so /dev/null http://127.0.0.1:48080/ok; do sleep 0.1; done
expect nginx-access info
get() { curl -so /dev/null "http://127.0.0.1:48080$1" || true; expect nginx-access "$2"; }
get '/ok?level=error' info
get /moved info
get /broken error
get /away error
get /nothing-there warn
kill $nginx; wait $nginx || true
# Only the lines whose level was asked for: what a worker says beside them differs from run to run.
grep -E 'connect\(\) failed|No such file' nginx-error.log > "$tmp/errors"; mv "$tmp/errors" nginx-error.log
expect nginx-error error error

# Postgres, with its default prefix in UTC. Each event is asked for by its level.
initdb -D "$tmp/data" -A trust -U postgres > /dev/null
postgres -D "$tmp/data" -p 48081 -k "$tmp" -c log_timezone=UTC -c listen_addresses= -c log_min_messages=notice \
  -c log_min_error_statement=panic 2> "$tmp/postgres.log" & postgres=$!
until psql -qh "$tmp" -p 48081 -U postgres -c 'select 1' > /dev/null 2>&1; do sleep 0.1; done
echo > "$tmp/mark" && wc -l < "$tmp/postgres.log" > "$tmp/skip"
for level in LOG NOTICE WARNING EXCEPTION; do
  psql -qh "$tmp" -p 48081 -U postgres -c "do \$\$ begin raise $level 'no error: % level=error', 7; end \$\$" 2> /dev/null || true
done
psql -h "$tmp" -p 48081 -U nobody -c 'select 1' 2> /dev/null || true
kill $postgres; wait $postgres
# CONTEXT lines have a time of their own, and no level.
tail -n "+$(($(cat "$tmp/skip") + 1))" "$tmp/postgres.log" | sed '/shut\|abort\|background/,$d' > postgres.log
while read -r line; do
  case $line in
    *' LOG:  '*|*' NOTICE:  '*|*' CONTEXT:  '*) expect postgres info ;;
    *' WARNING:  '*) expect postgres warn ;;
    *' ERROR:  '*) expect postgres error ;;
    *' FATAL:  '*) expect postgres fatal ;;
  esac
done < postgres.log

# Redis writes the machine's local time; this is made with TZ=UTC.
TZ=UTC redis-server --port 48082 --save '' --logfile "$out/redis.log" --loglevel verbose --dir "$tmp" --daemonize no & redis=$!
until redis-cli -p 48082 ping > /dev/null 2>&1; do sleep 0.1; done
redis-cli -p 48082 shutdown nosave; wait $redis || true
# Its picture, and the lines that differ from machine to machine, are left out.
grep -E '^[0-9]+:[A-Z] .* (Redis|Configuration|Server|Ready|User|Accepted|bye|WARNING)|Redis is now ready' redis.log | grep -v 'WARNING' > "$tmp/redis"
mv "$tmp/redis" redis.log
while read -r line; do
  case $line in *' # '*) expect redis warn ;; *' - '*|*' . '*) expect redis debug ;; *) expect redis info ;; esac
done < redis.log

# logger(1) writes both forms of syslog, with their PRI.
export TZ=UTC
receive() {
  python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
with open(sys.argv[2], "wb") as out:
    for _ in range(8):
        out.write(s.recv(4096).strip() + b"\n")' "$tmp/$1" "$out/logger-$1.log" &
  until [ -S "$tmp/$1" ]; do sleep 0.1; done
}
receive rfc3164
receive rfc5424
for pair in debug:debug info:info notice:info warning:warn err:error crit:fatal alert:fatal emerg:fatal; do
  for form in rfc3164 rfc5424; do
    logger -d -u "$tmp/$form" --id=7 "--$form" -t shop -p "user.${pair%:*}" 'no error here'
    expect "logger-$form" "${pair#*:}"
  done
done
wait
