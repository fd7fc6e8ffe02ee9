#!/usr/bin/env bash
# Style, types and the fast tests; further arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash scripts/environment.sh dev,metrics
bin="${VENV:-$PWD/.venv}/bin"
"$bin/ruff" check .
"$bin/ruff" format --check .
"$bin/mypy"
"$bin/python" -m pytest -q "$@"
