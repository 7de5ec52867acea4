#!/bin/sh
# Set this machine up for labtool: system packages, virtual environment, host image. Does only what is missing.
# `setup.sh python` stops after the virtual environment.
set -eu
cd "$(dirname "$0")/.."

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else fail "this needs root, and there is no sudo: run it as root"
  fi
}

# --- system packages -------------------------------------------------------------------------------------------------
# The local cloud: an engine, its network, the image's builder, each host's own /proc. The rest: SSH, sadf to read the
# hosts' counters, Maven for jars where the project's own site is out of reach, git for sites and programs that are commits, a
# browser for the report's tests.
packages="podman runc netavark iptables nftables uidmap mmdebstrap lxcfs fuse3 iproute2 openssh-client sysstat zstd
 ca-certificates git python3 python3-venv maven chromium poppler-utils"

missing=""
for package in $packages; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
if [ "${1:-}" != python ] && [ -n "$missing" ]; then
  command -v apt-get >/dev/null || fail "this is no Debian or Ubuntu: install by hand$missing"
  say "installing system packages:$missing"
  [ "$(id -u)" = 0 ] || say "sudo is asked for, to install them"
  as_root apt-get -q update >/dev/null
  # shellcheck disable=SC2086 # a list of names
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install $missing >/dev/null \
    || fail "apt-get could not install:$missing"
fi

# --- Python ----------------------------------------------------------------------------------------------------------
python=${PYTHON:-}
if [ -z "$python" ]; then
  for candidate in python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      python=$candidate
      break
    fi
  done
fi
[ -n "$python" ] || fail "Python 3.11 or newer is missing (apt-get install python3 python3-venv)"

stamp=.venv/.labtool-lock
now=$(cat requirements.lock pyproject.toml | sha256sum)
if [ ! -x .venv/bin/labtool ] || [ "$(cat $stamp 2>/dev/null)" != "$now" ]; then
  say "making the virtual environment .venv from requirements.lock"
  .venv/bin/python -c '' 2>/dev/null || { rm -rf .venv; "$python" -m venv .venv; }
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
  printf '%s\n' "$now" > $stamp
fi
[ "${1:-}" != python ] || exit 0

# --- host image ------------------------------------------------------------------------------------------------------
.venv/bin/python -m labtool.localcloud prepare
