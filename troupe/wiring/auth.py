"""What the auth group consists of: logins, tokens, tenants and their connections."""

from troupe.actors.auth.backchannel import BackchannelLogouts
from troupe.actors.auth.login import Logins, LoginSettings
from troupe.actors.auth.refreshes import Refresher, RefreshSettings
from troupe.actors.auth.relying_party import RelyingParty
from troupe.actors.auth.return_address import origin_of
from troupe.common.secrets import Vault
from troupe.http import auth as auth_routes
from troupe.http import auth_login
from troupe.http.application import Application
from troupe.platform.group import Group
from troupe.platform.supervision import ChildContext, ChildSpec
from troupe.wiring.parts import (
    add_http,
    add_peers,
    application,
    credentials_of,
    http_settings,
    new_group,
)
from troupe.wiring.site import Site


def compose(site: Site) -> Group:
    """The auth group."""
    group, database = new_group(site, "auth")
    settings = site.configuration.auth
    peers = add_peers(site, group)
    refresh = RefreshSettings(settings.session_confirm, settings.session_unconfirmed)
    addresses = auth_login.Addresses(site.auth_url, site.dashboard_url)
    vault = Vault(site.keys)

    async def ask_again(child: ChildContext) -> None:
        party = RelyingParty(peers.get())
        await Refresher(database.get(), vault, party, refresh).run(child)

    if refresh.confirm > 0:
        group.add_actor(ChildSpec(name="refresher", start=ask_again))

    def build() -> Application:
        credentials = credentials_of(site, database.get(), peers.get())
        logins = Logins(
            database.get(),
            vault,
            RelyingParty(peers.get()),
            LoginSettings(
                callback_url=addresses.callback,
                home_url=addresses.home,
                state_lifetime=settings.login_state_lifetime,
                session_idle=settings.session_idle,
                session_absolute=settings.session_absolute,
                refresh=refresh,
            ),
        )
        app = application(
            site,
            group,
            database.get(),
            credentials,
            description="Login, sessions and tokens, tenants and their connections.",
            settings=http_settings(
                site, public_url=site.auth_url, cors_origins=(origin_of(site.dashboard_url),)
            ),
        )
        auth_routes.declare(
            app,
            database=database.get(),
            vault=vault,
            logins=logins,
            logouts=BackchannelLogouts(database.get(), RelyingParty(peers.get())),
            credentials=credentials,
            addresses=addresses,
            peers=peers.get(),
        )
        return app

    add_http(site, group, build)
    return group
