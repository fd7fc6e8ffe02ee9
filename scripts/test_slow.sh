#!/usr/bin/env bash
# The tests that take minutes; further arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash scripts/environment.sh dev,metrics
bin="${VENV:-$PWD/.venv}/bin"
"$bin/python" -m pytest -q tests/slow "$@"
