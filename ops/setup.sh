#!/bin/sh
# Builds .venv from the hash-pinned lock and installs this repository into it, editable.
# Quick when nothing changed: a stamp holds the digest of everything that decides the result.
set -eu
cd "$(dirname "$0")/.."

fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# A name on PATH is not yet an interpreter (version managers put shims there), so each one is run.
find_python() {
    for candidate in ${PYTHON:-} python3.13 python3.12 python3.11 python3 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

python=$(find_python) || fail "Python 3.11 or newer is needed; name one with PYTHON=/path/to/python make setup"
stamp=.venv/.troupe-setup
want=$(cat requirements/dev.txt pyproject.toml ops/demo/pyproject.toml ops/setup.sh | sha256sum | cut -d' ' -f1)
if [ -x .venv/bin/troupe ] && [ "$(cat "$stamp" 2>/dev/null || true)" = "$want" ]; then
    exit 0
fi

# Two callers at once (make demo beside make test) must not build the same tree.
if command -v flock >/dev/null 2>&1 && [ "${TROUPE_SETUP_LOCKED:-}" != 1 ]; then
    TROUPE_SETUP_LOCKED=1 exec flock --timeout 1800 .setup.lock sh "$0" "$@"
fi

echo "setup: building .venv with $("$python" --version)"
rm -f "$stamp"
"$python" -m venv --clear .venv 2>.setup.log || {
    cat .setup.log >&2
    fail "this Python cannot make virtual environments; on Debian: apt-get install python3-venv"
}
# The lock is complete, so nothing is resolved here: an older pip asks for a pin of its own for a
# package that another one wants with an extra (google-auth[pyopenssl]). `pip check` proves it whole.
.venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --require-hashes --only-binary :all: --no-deps -r requirements/dev.txt
.venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --no-deps --no-build-isolation --no-index -e . -e ops/demo
.venv/bin/python -m pip --quiet --disable-pip-version-check check || fail "the lock is incomplete"
# Every process of every test starts with these; where the environment forbids Python to write what
# it has compiled (PYTHONDONTWRITEBYTECODE), each would compile them again.
.venv/bin/python -m compileall -q troupe ops/demo
printf '%s' "$want" > "$stamp"
rm -f .setup.log
echo "setup: done"
