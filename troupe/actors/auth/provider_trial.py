"""Trying an identity provider: everything about it that can be known before somebody logs in.

A login fails at the worst moment, in front of people who cannot mend it, and the provider's error
page seldom names the slip. So whoever sets one up can have it tried: the document is fetched anew
(not the remembered one), compared with what was filled in, the keys are read under the same rules
as for a login, and the token endpoint is asked to redeem a code that nobody has. To that a provider
that accepts us answers ``invalid_grant``, one that does not ``invalid_client``: so the client id
and the secret are tried as well, without anybody logging in.

What cannot be known so is whether our callback is registered there; only the provider's own page
shows that, which is why the settings page names the address.

Each step says what it found for a person. What depends on a step that failed is not tried.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from troupe.actors.auth import discovery, keys
from troupe.actors.auth.discovery import ProviderMetadata
from troupe.actors.auth.login_secrets import new_handle
from troupe.actors.auth.peer_http import PeerHttp
from troupe.actors.auth.relying_party import Client, authenticated
from troupe.common.errors import PeerError

CODE_OF_NOBODY: Final = "troupe-tries-whether-the-client-is-known"
_REJECTED: Final = frozenset({"invalid_client", "unauthorized_client"})
_MOST_NAMED: Final = 9


@dataclass(frozen=True, slots=True)
class TrialStep:
    """One thing that was tried.

    Attributes:
        name: What, in a few words.
        ok: Whether a login would get past it.
        message: What was found, in a sentence.
    """

    name: str
    ok: bool
    message: str


@dataclass(frozen=True, slots=True)
class ProviderTrial:
    """What was found; the steps in the order of a login, the last one the first that failed."""

    steps: tuple[TrialStep, ...]

    @property
    def works(self) -> bool:
        """Whether nothing stands in the way of a login, as far as can be seen from here."""
        return all(step.ok for step in self.steps)

    @property
    def message(self) -> str:
        """The outcome in a sentence."""
        if self.works:
            return "People can be sent there to log in."
        return next(step.message for step in self.steps if not step.ok)


async def try_provider(http: PeerHttp, client: Client, *, callback: str) -> ProviderTrial:
    """Try a provider with what a tenant has filled in; never longer than three requests take.

    Args:
        http: How.
        client: What we are there.
        callback: Where it would send browsers back.
    """
    where = discovery.document_url(client.issuer)
    try:
        document = await http.get(where)
        metadata = discovery.read(document, client.issuer)
    except PeerError as error:
        return ProviderTrial((TrialStep("its document", False, f"{error}"),))
    steps = [
        TrialStep("its document", True, f"Found at {where}, and about this issuer."),
        _way(document),
        _algorithms(document, client),
    ]
    if all(step.ok for step in steps):
        steps.append(await _keys(http, metadata, client))
    if all(step.ok for step in steps):
        steps.append(await _client(http, metadata, client, callback))
    last = next((place for place, step in enumerate(steps) if not step.ok), len(steps) - 1)
    return ProviderTrial(tuple(steps[: last + 1]))


def _way(document: Mapping[str, Any]) -> TrialStep:
    """Whether it offers the one way to log in that we use."""
    name = "the way to log in"
    types, methods = (
        document.get(key)
        for key in ("response_types_supported", "code_challenge_methods_supported")
    )
    if isinstance(types, list) and "code" not in types:
        return TrialStep(name, False, "It does not offer logins with a code (response type code).")
    if isinstance(methods, list) and "S256" not in methods:
        return TrialStep(name, False, "It does not protect the code with PKCE of the kind S256.")
    protected = "protected with PKCE" if isinstance(methods, list) else "and says nothing of PKCE"
    return TrialStep(name, True, f"A code, {protected}.")


def _algorithms(document: Mapping[str, Any], client: Client) -> TrialStep:
    """Whether it signs with what was chosen, as far as it says."""
    name, chosen = "signatures", ", ".join(sorted(client.algorithms))
    offered = document.get("id_token_signing_alg_values_supported")
    if not isinstance(offered, list):
        return TrialStep(name, True, f"It does not say what it signs with; {chosen} is accepted.")
    known = [str(one) for one in offered if str(one) in keys.ALGORITHMS]
    common = sorted(client.algorithms & set(known))
    if common:
        return TrialStep(name, True, f"It signs with {', '.join(common)}, which is accepted.")
    told = ", ".join(known[:_MOST_NAMED]) or "nothing that may be accepted"
    return TrialStep(name, False, f"It signs with {told}, but {chosen} is accepted here.")


async def _keys(http: PeerHttp, metadata: ProviderMetadata, client: Client) -> TrialStep:
    try:
        admitted = keys.admit(await http.get(metadata.jwks_uri))
    except PeerError as error:
        return TrialStep("its keys", False, str(error))
    fitting = admitted.fitting(client.algorithms)
    if not fitting:
        return TrialStep(
            "its keys", False, "None of its keys fits the signatures that are accepted here."
        )
    counted = "One key fits" if fitting == 1 else f"{fitting} keys fit"
    return TrialStep("its keys", True, f"{counted} the signatures that are accepted here.")


async def _client(
    http: PeerHttp, metadata: ProviderMetadata, client: Client, callback: str
) -> TrialStep:
    """Whether it knows us: see the module's head."""
    name = "client id and secret" if client.secret is not None else "client id"
    form = {
        "grant_type": "authorization_code",
        "code": CODE_OF_NOBODY,
        "redirect_uri": callback,
        "code_verifier": new_handle(),
    }
    try:
        fields, authorization = authenticated(metadata, client, form)
        status, answer = await http.post_form(
            metadata.token_endpoint, fields, authorization=authorization
        )
    except PeerError as error:
        return TrialStep(name, False, str(error))
    refusal = answer.get("error")
    if status == 401 or refusal in _REJECTED:
        return TrialStep(name, False, f"The identity provider does not accept the {name}.")
    if refusal == "invalid_grant":
        return TrialStep(name, True, "Accepted.")
    return TrialStep(name, True, "Not refused; the provider does not tell more before a login.")
