"""A small, correct OpenID provider for development and tests.

It speaks what a relying party needs and nothing else: discovery, the authorization code flow with
PKCE (S256, required), rotating refresh tokens, userinfo and RP-initiated logout. Passwords stand in
a file in the clear and everything else lives in memory, so it listens on loopback only.

Run it as a companion process: ``python -m troupe_demo.oidc --config FILE [--port 0]``. It prints
one line of JSON on standard output when it is ready (``{"issuer": "http://127.0.0.1:43215"}``),
logs to standard error, and ends on SIGTERM or when its standard input closes. The configuration is
read again for every request, so redirect addresses can be added once their ports are known.
"""
