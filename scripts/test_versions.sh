#!/usr/bin/env bash
# The fast tests on the oldest and the newest supported torch and Python, each in an environment of its own.
#   scripts/test_versions.sh [oldest|newest|both] [PYTEST ARGUMENTS]      both by default
# $OLDEST_PYTHON and $NEWEST_PYTHON name the interpreters, $VENVS the folder for the environments, some gigabytes each.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

which="${1:-both}"
case "$which" in
  oldest | newest | both) shift $(($# > 0)) ;;
  *) echo "test_versions: expected oldest, newest or both, got $which" >&2 && exit 2 ;;
esac
venvs="${VENVS:-$PWD/.venvs}"
mkdir -p "$venvs"

# NAME PYTHON PINS [PYTEST ARGUMENTS]: its own pins of torch, and the usual ones but of what goes with torch.
fast_tests() {
  local venv="$venvs/$1" python="$2" pins="$venvs/$1.txt"
  { grep -vE '^(torch|torchvision|triton|setuptools|nvidia-.*|cuda-.*)==' constraints.txt && printf '%s\n' $3; } >"$pins"
  shift 3
  VENV="$venv" PYTHON="$python" CONSTRAINTS="$pins" bash scripts/environment.sh dev
  "$venv/bin/python" -c 'import platform, torch; print(f"Python {platform.python_version()}, torch {torch.__version__}")'
  OMP_NUM_THREADS=1 "$venv/bin/python" -m pytest -q -n auto --maxprocesses 4 --dist worksteal "$@"
}

[ "$which" = newest ] || fast_tests oldest "${OLDEST_PYTHON:-python3.10}" "torch==2.11.0 torchvision==0.26.0" "$@"
[ "$which" = oldest ] || fast_tests newest "${NEWEST_PYTHON:-python3.13}" "" "$@" # the newest that pip finds
