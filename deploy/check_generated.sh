#!/usr/bin/env bash
# Fails when a generated file is not what its source would give now.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${BIN:-.venv/bin}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$bin/mien" openapi "$scratch/openapi.json"
diff -u docs/openapi.json "$scratch/openapi.json" >&2 || { echo "Run: make openapi" >&2; exit 1; }
"$bin/mien" errors "$scratch/errors.md"
diff -u docs/errors.md "$scratch/errors.md" >&2 || { echo "Run: make openapi" >&2; exit 1; }

"$bin/python" deploy/grafana/dashboard.py "$scratch/mien.json"
diff -u deploy/grafana/mien.json "$scratch/mien.json" >&2 \
    || { echo "Run: make dashboard" >&2; exit 1; }

cp -r proto buf.yaml "$scratch/"
mkdir -p "$scratch/services/rpc"
PYTHON="$PWD/$bin/python" "$scratch/proto/generate.sh"
for package in mien inference; do
    diff -ru --exclude=__pycache__ "services/rpc/$package" "$scratch/services/rpc/$package" >&2 \
        || { echo "Run: make proto" >&2; exit 1; }
done
