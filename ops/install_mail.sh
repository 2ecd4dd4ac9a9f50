#!/bin/sh
# The tests of reports also talk to Debian's postfix and dovecot. As root on Debian or Ubuntu they are
# installed here, and not started; anyone else is told what to do.
set -eu
if [ -x /usr/sbin/postfix ] && [ -x /usr/sbin/dovecot ] && [ -d /usr/lib/dovecot ] &&
    [ -x /usr/lib/dovecot/imap ]; then
    exit 0
fi
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "mail: installing postfix and dovecot-imapd"
    export DEBIAN_FRONTEND=noninteractive
    # A package that starts its service does not, where this exists and says no.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    apt-get update -qq
    echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
    apt-get install -qq -y --no-install-recommends postfix dovecot-imapd >/dev/null
    exit 0
fi
echo "mail: the tests need postfix and dovecot-imapd (Debian: apt-get install), and root" >&2
exit 1
