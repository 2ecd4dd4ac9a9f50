#!/bin/sh
# The tests of several hosts make network namespaces, which takes root and iproute2. As root on
# Debian or Ubuntu it is installed here; anyone else is told what to do.
set -eu
if [ "$(id -u)" -ne 0 ]; then
    echo "e2e: the tests of several hosts make network namespaces: run them as root" >&2
    exit 1
fi
if command -v ip >/dev/null 2>&1 && command -v bridge >/dev/null 2>&1; then
    exit 0
fi
if command -v apt-get >/dev/null 2>&1; then
    echo "e2e: installing iproute2"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends iproute2 >/dev/null
    exit 0
fi
echo "e2e: the tests of several hosts need the commands ip and bridge (iproute2)" >&2
exit 1
