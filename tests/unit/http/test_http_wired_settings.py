"""What the operator says about HTTP reaches all three ports."""

from troupe.common.config import load
from troupe.common.secrets import KeyRing
from troupe.platform.supervision import Snapshot
from troupe.wiring import Site
from troupe.wiring.parts import http_settings


def unused() -> Snapshot:
    raise AssertionError


def site(**http: object) -> Site:
    return Site(
        configuration=load(environment={}, overrides={"http": http}),
        sockets={},
        urls={"auth": "http://127.0.0.1:1", "data": "", "analytics": ""},
        runtime_url=lambda: "",
        keys=KeyRing([b"k" * 32]),
        snapshot=unused,
    )


def test_proxies_origins_and_rates() -> None:
    told = site(
        trusted_proxies=["10.0.0.0/8"],
        cors_origins=["https://app.example"],
        address_rate=120,
        account_rate=240,
        tenant_rate=480,
    )
    settings = http_settings(told, cors_origins=("https://dashboard.example",))
    assert settings.trusted_proxies == ("10.0.0.0/8",)
    assert settings.cors_origins == ("https://dashboard.example", "https://app.example")
    rates = (settings.address_rate, settings.principal_rate, settings.tenant_rate)
    assert [(rate.requests, rate.size) for rate in rates] == [(120, 30), (240, 20), (480, 40)]


def test_by_default_no_proxy_is_believed() -> None:
    settings = http_settings(site())
    assert settings.trusted_proxies == ()
    assert settings.cors_origins == ()
