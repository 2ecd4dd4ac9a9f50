#!/bin/sh
# The browser test drives a real Chromium. As root on Debian or Ubuntu it is installed here;
# anyone else is told what to do. TROUPE_CHROMIUM names another one.
set -eu
for candidate in "${TROUPE_CHROMIUM:-}" /usr/bin/chromium /usr/bin/chromium-browser /usr/bin/google-chrome; do
    if [ -n "$candidate" ] && [ -x "$candidate" ]; then
        exit 0
    fi
done
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "e2e: installing chromium"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends chromium >/dev/null
    exit 0
fi
echo "e2e: the browser test needs Chromium. Install it (Debian: apt-get install chromium)" >&2
echo "e2e: or name one with TROUPE_CHROMIUM=/path/to/chromium" >&2
exit 1
