import pytest
from quart import Response

from troupe.common.errors import ConfigurationError
from troupe.http.credentials import CookiePolicy
from troupe.http.principal import SESSION_COOKIE


def test_over_https_the_browser_guards_the_name() -> None:
    policy = CookiePolicy.under("https://auth.example")
    assert policy.session == SESSION_COOKIE
    assert policy.session.startswith("__Host-")
    assert policy.binding.startswith("__Host-")
    response = Response(b"")
    policy.set(response, policy.session, "x", 60)
    cookie = response.headers["Set-Cookie"]
    assert "Secure" in cookie
    assert "Path=/" in cookie
    assert "Domain" not in cookie


@pytest.mark.parametrize("host", ["127.0.0.1:8003", "localhost", "[::1]:8003", "a.localhost"])
def test_on_loopback_plain_http_will_do(host: str) -> None:
    policy = CookiePolicy.under(f"http://{host}")
    assert not policy.session.startswith("__")
    assert not policy.secure


@pytest.mark.parametrize(
    "url", ["http://auth.example", "http://10.0.0.1", "http://0.0.0.0:8003", "auth.example", ""]
)
def test_elsewhere_it_will_not(url: str) -> None:
    with pytest.raises(ConfigurationError):
        CookiePolicy.under(url)
