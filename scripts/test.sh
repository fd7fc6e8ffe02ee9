#!/usr/bin/env bash
# Style, types, imports and the fast tests, these on up to four cores; further arguments go to pytest (-n 0: one process).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash scripts/environment.sh dev,metrics
bin="${VENV:-$PWD/.venv}/bin"
"$bin/ruff" check .
"$bin/ruff" format --check .
"$bin/mypy"
"$bin/lint-imports" --no-cache
export OMP_NUM_THREADS=1  # of each process: they share the cores
"$bin/python" -m pytest -q -n auto --maxprocesses 4 --dist worksteal "$@"
