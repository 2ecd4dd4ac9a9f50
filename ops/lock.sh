#!/bin/sh
# Resolves requirements/*.txt from pyproject.toml, for every platform and supported Python at once.
set -eu
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
.venv/bin/python -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet uv
compile() { "$scratch/venv/bin/uv" pip compile --universal --python-version 3.11 --generate-hashes \
    --no-header --no-annotate --quiet --upgrade "$@"; }
compile pyproject.toml -o requirements/runtime.txt
compile -c requirements/runtime.txt pyproject.toml --group dev -o requirements/dev.txt
