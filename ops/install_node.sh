#!/bin/sh
# The tests log in at an identity provider that runs on Node.js, 20 or newer. As root on Debian or
# Ubuntu it is installed here; anyone else is told what to do.
set -eu
if command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1; then
    major=$(node --version | sed 's/^v\([0-9]*\).*/\1/')
    if [ "$major" -ge 20 ]; then
        exit 0
    fi
    echo "e2e: Node.js $(node --version) is too old; 20 or newer is needed" >&2
    exit 1
fi
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "e2e: installing Node.js"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends nodejs npm >/dev/null
    exit 0
fi
echo "e2e: the login tests need Node.js 20 or newer and npm (Debian: apt-get install nodejs npm)" >&2
exit 1
