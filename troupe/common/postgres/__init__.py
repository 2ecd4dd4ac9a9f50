"""The embedded PostgreSQL, and the roles and database that Troupe needs on any server."""

from troupe.common.postgres._attach import ServerUrls, running_server
from troupe.common.postgres._configuration import ClusterSettings
from troupe.common.postgres._postmaster import PostgresDied
from troupe.common.postgres._server import EmbeddedPostgres, start_embedded, start_embedded_sync
from troupe.common.postgres.roles import prepare_external

__all__ = [
    "ClusterSettings",
    "EmbeddedPostgres",
    "PostgresDied",
    "ServerUrls",
    "prepare_external",
    "running_server",
    "start_embedded",
    "start_embedded_sync",
]
