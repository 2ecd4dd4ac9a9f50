"""What can go wrong between a person, their identity provider and us.

::

    CallerError
    ├── LoginExpired (Conflict)         the login was used, took too long, or is another browser's
    ├── LoginDenied (Forbidden)         the person cancelled, or the provider refused them
    └── NotAMember (Forbidden)          the provider knows them, the tenant does not
    PeerError
    ├── ProviderUnavailable             no answer; worth another try
    ├── ProviderMisbehaved (PeerRefused)  an answer that does not hold
    │   └── TokenInvalid              a token of theirs that does not hold
    ├── GrantEnded (PeerRefused)        the provider stands by a login no longer
    └── ClientRejected (CredentialsRejected)  our own client id or secret is not accepted
"""

from troupe.common.errors import (
    Conflict,
    CredentialsRejected,
    Forbidden,
    PeerRefused,
    PeerUnavailable,
)


class LoginExpired(Conflict):
    """The login cannot be completed any more; the person has to start again."""


class LoginDenied(Forbidden):
    """The person cancelled, or the identity provider refused them."""


class NotAMember(Forbidden):
    """The person is who they say, but does not belong to the tenant."""


class ProviderUnavailable(PeerUnavailable):
    """The identity provider does not answer."""


class ProviderMisbehaved(PeerRefused):
    """The identity provider's answer cannot be used."""


class TokenInvalid(ProviderMisbehaved):
    """A token of the identity provider does not hold."""


class GrantEnded(PeerRefused):
    """The identity provider does not stand by a login any more: its refresh token is void."""


class ClientRejected(CredentialsRejected):
    """The identity provider does not accept the tenant's client id and secret."""
