# shellcheck shell=bash
# Sourced by ./demo and ./test: installs what is missing on Debian and Ubuntu, and nothing that is there.
#
# Asks before it installs, unless CI=true or there is nobody to ask.

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
die() { printf '%s\n' "$*" >&2; exit 1; }

have() { command -v "$1" >/dev/null 2>&1; }

# Debian keeps the servers of Postgres out of PATH.
have_postgres() {
  { have initdb && have postgres; } || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif have sudo; then sudo "$@"
  else die "this needs root, and there is no sudo. As root, run: $*"
  fi
}

# Stops a package's service from starting: logweir runs private servers of its own.
apt_install() {
  have apt-get || die "missing: $*. Install them with your package manager, then run this again."
  if [ "${CI:-}" != true ] && [ -t 0 ]; then
    printf 'To be installed by apt-get: %s. Go on? [Y/n] ' "$*" >&2
    read -r answer
    case "$answer" in [nN]*) die "stopped; install these yourself, then run this again: $*" ;; esac
  fi
  say "installing: $*"
  # RUNLEVEL=1 makes Debian's helpers leave services stopped.
  as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y --no-install-recommends "$@" >&2 && return
  as_root apt-get update >&2
  as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y --no-install-recommends "$@" >&2
}

# What building and running need.
setup_run() {
  have cargo || die "no Rust toolchain: install one from https://rustup.rs, then run this again"
  local packages=()
  have cc || packages+=(gcc libc6-dev)
  have redis-server || packages+=(redis-server)
  have_postgres || packages+=(postgresql)
  [ "${#packages[@]}" = 0 ] || apt_install "${packages[@]}"
}

# Schemathesis and a parser of metrics, as pinned by requirements.txt, into target/tools/python.
setup_python() {
  local venv=target/tools/python
  cmp -s scripts/requirements.txt "$venv/requirements.txt" && return
  { have python3 && python3 -c 'import ensurepip, venv' 2>/dev/null; } || apt_install python3 python3-venv
  say "installing the tests' tools in Python into $venv (once)"
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --require-hashes \
    -r scripts/requirements.txt ||
    die "the packages of scripts/requirements.txt can't be had from here (PyPI is needed once, for about 20 MB): see above for pip's reason; run this again when it can be reached"
  # Only a whole one counts as installed.
  cp scripts/requirements.txt "$venv/requirements.txt"
}

# What the checks need besides.
setup_test() {
  setup_run
  local packages=()
  have shellcheck || packages+=(shellcheck)
  # Debian keeps it out of the path of those who aren't root.
  have logrotate || [ -x /usr/sbin/logrotate ] || packages+=(logrotate)
  # For the examples of clients.
  have curl || packages+=(curl)
  have node || packages+=(nodejs)
  [ "${#packages[@]}" = 0 ] || apt_install "${packages[@]}"
  setup_python
  rustup component list --installed 2>/dev/null | grep -q '^clippy' || have cargo-clippy || rustup component add clippy
  rustup component list --installed 2>/dev/null | grep -q '^rustfmt' || have cargo-fmt || rustup component add rustfmt
  if ! have cargo-deny; then
    say "building cargo-deny into target/tools (once)"
    # Unoptimised: it builds in a minute, and runs for a second.
    CARGO_TARGET_DIR=target/tools/build cargo install --quiet --locked --profile dev --root target/tools cargo-deny@0.20.2
  fi
}
