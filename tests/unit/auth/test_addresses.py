"""Which addresses are the same, and which texts are none."""

from uuid import uuid4

import pytest

from troupe.actors.auth.addresses import is_address, lowered
from troupe.actors.auth.providers import IdentityProvider
from troupe.actors.auth.relying_party import Client, Identity
from troupe.common.ids import TenantId

KELVIN = "\N{KELVIN SIGN}"


@pytest.mark.parametrize("text", ["ada@harbor.example", "A.da+x@Sub.Harbor.example", "ö@ö.example"])
def test_an_address(text: str) -> None:
    assert is_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ada",
        "ada@harbor",
        "@harbor.example",
        "ada@",
        "ada@@harbor.example",
        "ada@harbor.example, eve@elsewhere.example",
        "ada@harbor.example eve@elsewhere.example",
        "Ada <ada@harbor.example>",
        '"a@b"@harbor.example',
        "ada@harbor.example\n",
        "ada@harbor.example\u0000",
        "ada@har\u202ebor.example",
        "a" * 65 + "@harbor.example",
        "ada@" + "h" * 250 + ".example",
    ],
)
def test_no_address(text: str) -> None:
    assert not is_address(text)


def test_only_the_case_of_ascii_letters_is_no_difference() -> None:
    assert lowered("ADA@Harbor.Example") == "ada@harbor.example"
    assert lowered(f"{KELVIN}im@harbor.example") != "kim@harbor.example"
    assert f"{KELVIN}im@harbor.example".lower() == "kim@harbor.example", "what is avoided"


@pytest.mark.parametrize(
    ("email", "joins"),
    [
        ("ada@strasse.example", True),
        ("ada@STRASSE.example", True),
        ("ada@straße.example", False),
        ("strasse.example@elsewhere.example", False),
        ("strasse.example", False),
    ],
)
def test_a_domain_lets_in_nobody_of_one_that_looks_like_it(email: str, *, joins: bool) -> None:
    provider = IdentityProvider(
        provider_id=uuid4(),
        tenant_id=TenantId(uuid4()),
        label="",
        client=Client("https://idp.example", "troupe", None, ("openid",), frozenset({"RS256"})),
        allowed_email_domains=("strasse.example",),
    )
    identity = Identity("https://idp.example", "sub", email, True, "", {}, "", None)
    assert (provider.role_for(identity) is not None) is joins
