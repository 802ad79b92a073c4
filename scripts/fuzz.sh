# shellcheck shell=bash
# Sourced by ./test: fuzzing with libFuzzer, on stable Rust. fuzz/README.md tells how to use it.

# For each target: its name (CRATE/TARGET), the program, and the test in it.
fuzz_targets=()

fuzz_cargo() {
  RUSTC_WRAPPER="$PWD/scripts/fuzz-rustc.sh" RUSTFLAGS="--cfg fuzzing_libfuzzer" CARGO_TERM_COLOR=never \
    cargo test --locked --no-run --profile fuzz --target "$host" --target-dir target/fuzz/build "$@"
}

fuzz_build() {
  setup_run
  have c++ || apt_install g++
  local host packages=() others=() program test crate
  host="$(rustc -vV | sed -n 's/^host: //p')"
  for crate in fuzz/corpus/*; do
    packages+=(-p "logweir-${crate##*/}")
    [ "${crate##*/}" = proto ] || others+=(-p "logweir-${crate##*/}")
  done
  say "building for libFuzzer (the first time it takes some minutes)"
  mkdir -p target/fuzz
  # proto has its targets in tests/fuzz, the others theirs in the unit tests.
  if ! { fuzz_cargo "${packages[@]}" --test fuzz && fuzz_cargo "${others[@]}" --lib --bin logweir-agent; } \
    2>target/fuzz/build.log; then
    cat target/fuzz/build.log >&2
    die "the build for libFuzzer failed"
  fi
  while read -r program; do
    crate="${program##*/}"
    crate="${crate%-*}"
    crate="${crate#logweir_}"
    [ "$crate" != fuzz ] || crate=proto
    while read -r test; do
      fuzz_targets+=("$crate/${test##*fuzz_} $program $test")
    done < <("$program" --list 2>/dev/null | sed -n 's/^\(.*fuzz_[a-z_]*\): test$/\1/p')
  done < <(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' target/fuzz/build.log)
  [ "${#fuzz_targets[@]}" != 0 ] || die "there is no target in the programs that were built"
}

# The targets whose name begins with one of the arguments, or all.
fuzz_chosen() {
  local target wanted
  for target in "${fuzz_targets[@]}"; do
    for wanted in "${@:-}"; do
      case "$target" in "$wanted"*) printf '%s\n' "$target"; break ;; esac
    done
  done | sort
}

# Runs one target with the arguments of libFuzzer that follow; its output goes to the log.
fuzz_run() {
  local name="$1" program="$2" test="$3"
  shift 3
  mkdir -p "target/fuzz/corpus/$name" "target/fuzz/log/${name%/*}" "fuzz/artifacts/$name"
  [ ! -f "fuzz/dict/$name" ] || set -- "-dict=fuzz/dict/$name" "$@"
  # How libFuzzer calls itself with other arguments, where it merges.
  local again="target/fuzz/again"
  cat >"$again" <<EOF
#!/usr/bin/env bash
LOGWEIR_FUZZ_ARGS="\$(printf '%s\\n' "\$@")" exec "$program" "$test" --exact --nocapture --test-threads=1
EOF
  chmod +x "$again"
  LOGWEIR_FUZZ_AGAIN="$PWD/$again" "$again" "-artifact_prefix=fuzz/artifacts/$name/" -timeout=10 -rss_limit_mb=1024 "$@" \
    >"target/fuzz/log/$name" 2>&1
}

# fuzz EXECUTIONS [TARGET…]: so many of each target, one after the other.
fuzz() {
  local runs="$1" name program test result=0 log failed
  shift
  fuzz_build
  [ -n "$(fuzz_chosen "$@")" ] || die "no target begins with: $*. ./test fuzz list prints all"
  printf '%-26s %12s %10s %8s %9s %10s\n' target executions per_second edges peak_MiB result
  while read -r name program test; do
    failed=""
    fuzz_run "$name" "$program" "$test" -print_final_stats=1 -max_len=4096 -reload=0 "-runs=$runs" \
      "target/fuzz/corpus/$name" "fuzz/corpus/$name" </dev/null || failed=yes
    log="target/fuzz/log/$name"
    fuzz_row "$name" "$log" "${failed:+FAILED}"
    if [ -n "$failed" ]; then
      result=1
      grep -m 1 -A 4 -e 'panicked at' -e 'ERROR: libFuzzer' "$log" >&2 || true
      say "all of its output: $log; to try it again:"
      sed -n "s|^artifact_prefix=.*written to \(.*\)\$|  LOGWEIR_FUZZ_INPUT=$name:$PWD/\1 cargo test -p logweir-${name%/*} fuzz_${name#*/}|p" "$log" >&2
    fi
  done < <(fuzz_chosen "$@")
  return "$result"
}

fuzz_row() {
  local name="$1" log="$2" of='s/^stat::%s: *//p' executions rate peak edges
  # shellcheck disable=SC2059 # the format is given just above
  {
    executions="$(sed -n "$(printf "$of" number_of_executed_units)" "$log")"
    rate="$(sed -n "$(printf "$of" average_exec_per_sec)" "$log")"
    peak="$(sed -n "$(printf "$of" peak_rss_mb)" "$log")"
  }
  edges="$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)"
  printf '%-26s %12s %10s %8s %9s %10s\n' "$name" "${executions:-?}" "${rate:-?}" "${edges:-?}" "${peak:-?}" "${3:-ok}"
}

# fuzz_keep [TARGET…]: from what was found, the few and short inputs that together reach the same become the corpus.
fuzz_keep() {
  local name program test fresh=target/fuzz/kept
  fuzz_build
  while read -r name program test; do
    rm -rf "$fresh" && mkdir -p "$fresh"
    fuzz_run "$name" "$program" "$test" -set_cover_merge=1 -max_len=1024 "$fresh" "fuzz/corpus/$name" \
      "target/fuzz/corpus/$name" </dev/null || die "merging failed: target/fuzz/log/$name"
    [ -n "$(find "$fresh" -type f)" ] || die "nothing would be left of the corpus: target/fuzz/log/$name"
    find "fuzz/corpus/$name" -type f ! -name 'regression-*' -delete
    find "$fresh" -type f -exec mv -t "fuzz/corpus/$name" {} +
    printf '%-26s %5s inputs\n' "$name" "$(find "fuzz/corpus/$name" -type f | wc -l)"
  done < <(fuzz_chosen "$@")
}
