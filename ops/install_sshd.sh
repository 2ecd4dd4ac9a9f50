#!/bin/sh
# The SFTP tests also talk to a real OpenSSH server. As root on Debian or Ubuntu it is installed
# here, and not started; anyone else is told what to do.
set -eu
if [ -x /usr/sbin/sshd ]; then
    exit 0
fi
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "sftp: installing openssh-server"
    export DEBIAN_FRONTEND=noninteractive
    # A package that starts its service does not, where this exists and says no.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends openssh-server >/dev/null
    exit 0
fi
echo "sftp: the tests need an OpenSSH server (Debian: apt-get install openssh-server), and root" >&2
exit 1
