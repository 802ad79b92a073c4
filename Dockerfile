# One image with every logweir program. Both bases are arguments, so that it builds from a private registry too.
ARG RUST_IMAGE=rust:1-bookworm
ARG RUNTIME_IMAGE=debian:bookworm-slim

FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p logweir -p logweir-agent -p logweir-collector -p logweir-worker \
 && mkdir /out \
 && cp target/release/logweir target/release/logweir-agent target/release/logweir-collector target/release/logweir-worker /out/

FROM ${RUNTIME_IMAGE}
# Volumes that are mounted here inherit the owner.
RUN useradd --system --uid 10001 --home-dir /var/lib/logweir logweir \
 && mkdir -p /var/lib/logweir/agent /var/log/app \
 && chown -R logweir: /var/lib/logweir /var/log/app
COPY --from=build /out/ /usr/local/bin/
COPY deploy/compose/healthcheck.sh /usr/local/bin/logweir-healthcheck
COPY examples/apps/app.sh /usr/local/bin/logweir-example-app
# glibc keeps freed blocks below this size, so that the collector would hold on to more than its budget for bodies.
ENV MALLOC_MMAP_THRESHOLD_=131072
USER logweir
WORKDIR /var/lib/logweir
CMD ["logweir", "--help"]
