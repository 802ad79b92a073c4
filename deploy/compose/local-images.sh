#!/usr/bin/env bash
# Makes stand-ins for the base images of docker-compose.yml, for a machine that reaches Debian's packages but no
# image registry: debian:bookworm-slim by debootstrap, and from it rust, redis, postgres and prometheus with
# what the official ones have that the compose file uses. Needs root, debootstrap, docker, and a Rust toolchain
# under rustup. Images that are there already stay as they are.
set -euo pipefail

missing() { ! docker image inspect "$1" >/dev/null 2>&1; }

# build TAG: a Dockerfile on stdin, the host's network for the packages.
build() { docker build --quiet --network host --tag "$1" - >/dev/null; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if missing debian:bookworm-slim; then
  debootstrap --variant=minbase bookworm "$work/debian"
  tar -C "$work/debian" -c . | docker import \
    -c 'CMD ["bash"]' -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' - debian:bookworm-slim
fi

if missing redis:7-bookworm; then
  build redis:7-bookworm <<'DOCKERFILE'
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends redis-server && mkdir -p /data && chown redis /data
USER redis
WORKDIR /data
CMD ["redis-server"]
DOCKERFILE
fi

if missing postgres:15-bookworm; then
  mkdir "$work/postgres"
  cat >"$work/postgres/entrypoint.sh" <<'ENTRYPOINT'
#!/bin/bash
# The part of the official image's entrypoint that a first start needs.
set -e
export PATH=$PATH:/usr/lib/postgresql/15/bin PGDATA=/var/lib/postgresql/data
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA" && chown postgres "$PGDATA" && chmod 700 "$PGDATA"
  exec setpriv --reuid postgres --regid postgres --init-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  initdb --username "$POSTGRES_USER" --auth-host scram-sha-256 --auth-local trust --pwfile <(echo "$POSTGRES_PASSWORD")
  echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
  pg_ctl -o '-c listen_addresses=' -w start
  createdb --username "$POSTGRES_USER" "$POSTGRES_DB"
  pg_ctl -w stop
fi
exec "$@" -c listen_addresses='*'
ENTRYPOINT
  chmod +x "$work/postgres/entrypoint.sh"
  cat >"$work/postgres/Dockerfile" <<'DOCKERFILE'
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends postgresql-15 && rm -rf /var/lib/postgresql/15
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/15/bin
COPY entrypoint.sh /usr/local/bin/
ENTRYPOINT ["entrypoint.sh"]
CMD ["postgres"]
DOCKERFILE
  docker build --quiet --network host --tag postgres:15-bookworm "$work/postgres" >/dev/null
fi

if missing prom/prometheus:v2.53.0; then
  build prom/prometheus:v2.53.0 <<'DOCKERFILE'
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends prometheus && mkdir -p /prometheus && chown nobody /prometheus
USER nobody
ENTRYPOINT ["prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
DOCKERFILE
fi

if missing rust:1-bookworm; then
  mkdir "$work/rust"
  cp -a "$(rustc --print sysroot)" "$work/rust/toolchain"
  rm -rf "$work/rust/toolchain/share/doc"
  # A company's own authority is trusted in the build as it is on this machine.
  cp /etc/ssl/certs/ca-certificates.crt "$work/rust/"
  cat >"$work/rust/Dockerfile" <<'DOCKERFILE'
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev ca-certificates
COPY toolchain /opt/rust
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
ENV PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
DOCKERFILE
  docker build --quiet --network host --tag rust:1-bookworm "$work/rust" >/dev/null
fi

docker image ls
