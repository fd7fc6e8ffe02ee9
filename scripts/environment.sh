#!/usr/bin/env bash
# Make .venv and install metagen with the pinned versions, if that is not done already.
#   scripts/environment.sh [EXTRAS]      e.g. dev,metrics; none by default
# $PYTHON names the interpreter for a new .venv; $VENV another folder than .venv; $CONSTRAINTS other pins.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
extras="${1:-}"
venv="${VENV:-$root/.venv}"
python="${PYTHON:-python3}"
constraints="${CONSTRAINTS:-$root/constraints.txt}"

fail() {
  echo "environment: $*" >&2
  exit 2
}

if [ ! -x "$venv/bin/python" ]; then
  command -v "$python" >/dev/null || fail "$python: not found; set PYTHON to a Python 3.10, 3.11, 3.12 or 3.13"
  "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' ||
    fail "$python is $("$python" --version 2>&1), expected 3.10 to 3.13; set PYTHON to one of these"
  echo "environment: making $venv with $("$python" --version)"
  "$python" -m venv "$venv" || fail "cannot make $venv; on Debian and Ubuntu the package python3-venv is needed"
fi

# One stamp for each set of extras: what was installed, from which two files, for which place.
stamp="$venv/.metagen-installed-${extras:-plain}"
wanted="$(cd "$root" && echo "$root" | cat - pyproject.toml "$constraints" | cksum)"
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
  echo "environment: $venv is up to date"
else
  echo "environment: installing metagen${extras:+[$extras]} into $venv (the first time downloads some gigabytes)"
  "$venv/bin/python" -m pip install --quiet --quiet --disable-pip-version-check --no-input \
    --constraint "$constraints" --editable "$root${extras:+[$extras]}" </dev/null ||
    fail "pip could not install metagen${extras:+[$extras]}; its message stands above"
  echo "$wanted" >"$stamp"
  echo "environment: done"
fi
