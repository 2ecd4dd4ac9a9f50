"""Tokens: only a key that the stand-in knows opens the door, and only its own project's."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest
from google.api_core import exceptions as api
from google.auth.exceptions import RefreshError
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from tests.integration.bigquery_standin.clients import DATASET, PROJECT, SCOPES, bigquery_client
from troupe_demo.bigquery import StandIn, create_service_account

TABLE = f"{DATASET}.events_20260101"


def _grant(stand_in: StandIn, assertion: str, grant_type: str | None = None) -> dict:
    form = {
        "grant_type": grant_type or "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "assertion": assertion,
    }
    data = urllib.parse.urlencode(form).encode()
    try:
        with urllib.request.urlopen(stand_in.token_uri, data, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return json.load(error)


def _assertion(account: dict[str, str], **changes: object) -> str:
    now = int(time.time())
    claims = {
        "iss": account["client_email"],
        "aud": account["token_uri"],
        "scope": " ".join(SCOPES),
        "iat": now,
        "exp": now + 3600,
    } | changes
    header = {"alg": "RS256", "kid": account["private_key_id"]}
    return jwt.encode(header, claims, RSAKey.import_key(account["private_key"]))


def test_the_key_file_has_the_shape_of_googles(account: dict[str, str], stand_in: StandIn):
    assert set(account) == {
        *("type", "project_id", "private_key_id", "private_key", "client_email", "client_id"),
        *("auth_uri", "token_uri", "auth_provider_x509_cert_url", "client_x509_cert_url"),
        "universe_domain",
    }
    assert account["type"] == "service_account"
    assert account["token_uri"] == f"{stand_in.url}/token"


def test_the_private_key_is_kept_nowhere(account: dict[str, str], stand_in: StandIn):
    secret = "".join(account["private_key"].splitlines()[1:-1])[:64]
    for path in stand_in.root.rglob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert "PRIVATE" not in text
        assert secret not in text.replace("\\n", "")


def test_a_signed_assertion_gives_a_token(account: dict[str, str], stand_in: StandIn):
    answer = _grant(stand_in, _assertion(account))
    assert answer["token_type"] == "Bearer"
    assert answer["expires_in"] == 3600


def test_a_wrong_key_is_an_invalid_grant(account: dict[str, str], stand_in: StandIn):
    other = create_service_account(stand_in.root, PROJECT, stand_in.token_uri)
    forged = account | {"private_key": other["private_key"]}
    with bigquery_client(stand_in, forged) as client:
        with pytest.raises(RefreshError, match="invalid_grant: Invalid JWT Signature"):
            client.get_table(TABLE)
        operations = [asked.operation for asked in stand_in.faults.log()]
        assert set(operations) == {"token"}


def test_an_unknown_account_is_an_invalid_grant(account: dict[str, str], stand_in: StandIn):
    for email in ("nobody@tool-shop.iam.gserviceaccount.com", "x@../etc", "nobody", ""):
        answer = _grant(stand_in, _assertion(account | {"client_email": email}))
        assert answer["error"] == "invalid_grant"
        assert "account not found" in answer["error_description"]


def test_a_revoked_key_gives_no_new_token(account: dict[str, str], stand_in: StandIn):
    assert "access_token" in _grant(stand_in, _assertion(account))
    (registration,) = (stand_in.root / PROJECT).glob("service_account.*.json")
    registration.unlink()
    assert _grant(stand_in, _assertion(account))["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("changes", "error", "description"),
    [
        ({"exp": 1_000_003_600, "iat": 1_000_000_000}, "invalid_grant", "reasonable timeframe"),
        ({"exp": int(time.time()) + 90_000}, "invalid_grant", "short-lived"),
        ({"exp": "soon"}, "invalid_grant", "short-lived"),
        ({"aud": "https://elsewhere.example/token"}, "invalid_grant", "audience"),
        ({"scope": "https://www.googleapis.com/auth/drive"}, "invalid_scope", "scope"),
    ],
)
def test_claims_are_checked(
    account: dict[str, str], stand_in: StandIn, changes: dict, error: str, description: str
):
    answer = _grant(stand_in, _assertion(account, **changes))
    assert answer["error"] == error
    assert description in answer["error_description"]


def test_what_is_no_assertion_is_refused(account: dict[str, str], stand_in: StandIn):
    header, claims, _ = _assertion(account).split(".")
    symmetric = OctKey.generate_key(256)
    unsigned = jwt.encode({"alg": "HS256", "kid": "x"}, {"iss": "x"}, symmetric)
    for assertion in ("", "a", "a.b.c", f"{header}.{claims}.", "{}" * 10_000, unsigned):
        assert "error" in _grant(stand_in, assertion)
    answer = _grant(stand_in, _assertion(account), grant_type="password")
    assert answer["error"] == "unsupported_grant_type"


def test_without_a_token_nothing_is_served(stand_in: StandIn):
    path = f"{stand_in.url}/bigquery/v2/projects/{PROJECT}/datasets"
    for headers in ({}, {"Authorization": "Bearer ya29.guessed"}, {"Authorization": "Basic x"}):
        request = urllib.request.Request(path, headers=headers)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        with refused.value as error:
            assert error.code == 401
            assert json.load(error)["error"]["status"] == "UNAUTHENTICATED"


def test_an_account_sees_its_own_project_alone(stand_in: StandIn, account: dict[str, str]):
    other = create_service_account(stand_in.root, "other-shop", stand_in.token_uri)
    with bigquery_client(stand_in, other, project=PROJECT) as client:
        with pytest.raises(api.Forbidden, match="Access Denied: Table tool-shop:analytics_1"):
            client.get_table(TABLE)
        with pytest.raises(api.Forbidden, match=r"jobs\.create denied on project tool-shop"):
            client.query("SELECT 1")
    with bigquery_client(stand_in, account) as client:
        assert client.get_table(TABLE).num_rows == 40
