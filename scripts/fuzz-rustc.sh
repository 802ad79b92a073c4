#!/usr/bin/env bash
# A RUSTC_WRAPPER: has the code that is fuzzed report its coverage to libFuzzer, and call a counter at each step (see
# fuzz/src/steps.c). Other crates stay as they are, since libFuzzer looks at all counters after each execution.
#
# What is asked of LLVM here is what `cargo fuzz` asks, without its sanitizers, which need nightly Rust.
set -euo pipefail
rustc="$1"
shift
case " $* " in
  # Build scripts and macros run on the host, and get no target.
  *" --target "*) ;;
  *) exec "$rustc" "$@" ;;
esac
crate=""
for word in "$@"; do
  if [ "$crate" = --crate-name ]; then crate="$word"; break; fi
  if [ "$word" = --crate-name ]; then crate="$word"; fi
done
case "$crate" in
  logweir* | fuzz | miniz_oxide | flate2 | jiff | http | httpdate | uuid | serde_json)
    exec "$rustc" "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
      -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
      -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-sanitizer-coverage-trace-pc-guard \
      -Clink-arg=-Wl,--wrap=__sanitizer_cov_trace_pc_guard,--wrap=__sanitizer_cov_trace_pc_guard_init ;;
  *) exec "$rustc" "$@" ;;
esac
