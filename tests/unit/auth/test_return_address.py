import pytest

from troupe.actors.auth.return_address import origin_of, return_address

HOME = "https://dashboard.example/start"
ORIGINS = frozenset({"https://dashboard.example", "https://auth.example:8443"})


def reached(wanted: str | None) -> str:
    return return_address(wanted, home=HOME, origins=ORIGINS)


@pytest.mark.parametrize(
    ("wanted", "address"),
    [
        ("/", "https://dashboard.example/"),
        ("/tasks?x=1#y", "https://dashboard.example/tasks?x=1#y"),
        ("https://dashboard.example/x", "https://dashboard.example/x"),
        ("https://dashboard.example", "https://dashboard.example"),
        ("https://DASHBOARD.example:443/x", "https://DASHBOARD.example:443/x"),
        ("https://auth.example:8443/", "https://auth.example:8443/"),
    ],
)
def test_our_own_addresses(wanted: str, address: str) -> None:
    assert reached(wanted) == address


@pytest.mark.parametrize(
    "wanted",
    [
        None,
        "",
        "tasks",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/x\r\nSet-Cookie: a=b",
        " /x",
        "https://evil.example",
        "http://dashboard.example/",
        "https://dashboard.example:8443/",
        "https://dashboard.example.evil.example/",
        "https://dashboard.example@evil.example/",
        "https://user@dashboard.example/",
        "https://:secret@dashboard.example/",
        "https://dashboard.example\\@evil.example/",
        "https:dashboard.example",
        "https:///dashboard.example",
        "https://dashboard.example:99999/",
        "https://[::1/",
        "javascript:alert(1)",
        "data:text/html,x",
        "https://dashböard.example/",
        "/" + "x" * 2000,
    ],
)
def test_everything_else_leads_home(wanted: str | None) -> None:
    assert reached(wanted) == HOME


def test_origins() -> None:
    assert origin_of("http://127.0.0.1:8001/x") == "http://127.0.0.1:8001"
    assert origin_of("http://[::1]:80/") == "http://[::1]"
