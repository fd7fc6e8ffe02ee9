#!/usr/bin/env bash
# From a fresh clone to a generator of letters it has never seen; further arguments go to `metagen demo`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash scripts/environment.sh
exec "${VENV:-$PWD/.venv}/bin/metagen" demo "$@"
