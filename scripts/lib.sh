# Sourced by the scripts beside it, never run: the repository's root as working
# directory, and what more than one of them needs.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=${CARGO_TARGET_DIR:-target}
# Python with the packages of tests/clients/requirements.txt; see scripts/install.
venv=$target/clients/venv

# The longest that a gateway may take from its start to its start line.
READY_SECONDS_MAX=30

# The comment at the top of the calling script, as its --help.
usage() { sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"; }

# First browser found that is Chromium or built on it, or nothing.
find_chromium() {
  local name
  for name in ${CHROMIUM:+"$CHROMIUM"} chromium google-chrome; do
    if command -v "$name"; then return; fi
  done
}

# make_certificate FOLDER: a certificate for localhost that signs itself, as
# certificate.pem, and its key as key.pem.
make_certificate() {
  mkdir -p "$1"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
    -addext "subjectAltName=DNS:localhost,IP:127.0.0.1" -keyout "$1/key.pem" -out "$1/certificate.pem" 2> /dev/null
}

# start_gateway PROGRAM ARGUMENTS...: starts it with two shards on free ports,
# logging to $log, and sets $clients and $admin (host:port). It ends with the
# script.
start_gateway() {
  local waited=0
  log=$(mktemp "${TMPDIR:-/tmp}/wsgate-log.XXXXXX")
  "$@" --listen 127.0.0.1:0 --admin 127.0.0.1:0 --shards 2 > "$log" 2>&1 &
  gateway=$!
  trap stop_gateway EXIT
  until clients=$(address clients) && admin=$(address admin); do
    if ! kill -0 "$gateway" 2> /dev/null || [ $((waited += 1)) -gt $((READY_SECONDS_MAX * 10)) ]; then
      echo "$1 printed no start line with clients= and admin=" >&2
      return 1
    fi
    sleep 0.1
  done
}

# io_is_refused PROGRAM BACKEND: whether this machine refuses the gateway that backend, and
# if so, a line about why.
io_is_refused() {
  # A gateway that can start serves until it is stopped.
  local said
  said=$(timeout 2 "$1" --io "$2" --listen 127.0.0.1:0 --admin 127.0.0.1:0 2>&1) || true
  grep "cannot use $2" <<< "$said"
}

# address NAME: the value of NAME=host:port in the gateway's start line.
address() { grep -oE "\b$1=[0-9.]+:[0-9]+" "$log" | head -n 1 | cut -d= -f2 | grep .; }

# Its log is worth reading only when the script failed, or the gateway did.
stop_gateway() {
  local status=$?
  if ! kill "$gateway" 2> /dev/null; then
    echo "the gateway ended by itself" >&2
    [ "$status" -ne 0 ] || status=1
  fi
  wait "$gateway" || true
  if [ "$status" -ne 0 ]; then
    echo "the end of the gateway's log:" >&2
    tail -n 20 "$log" >&2
  fi
  rm -f "$log"
  exit "$status"
}

# skipped NAME REASON: says so; a failure in CI, where nothing may be skipped.
skipped() {
  echo "skipped: $1: $2"
  [ "${CI:-}" != true ] || { echo "FAILED $1: may not be skipped with CI=true"; return 1; }
}
