"""What the data group consists of: jobs and schedules, and what is told of them."""

from troupe.actors.auth.return_address import origin_of
from troupe.actors.data.connection_test import connection_test_kind
from troupe.actors.data.erasure import erasure_kinds
from troupe.actors.data.ingestion import ingest_kind
from troupe.actors.data.job_requests import IMPORT_MASTER_DATA, INGEST, RECONCILE
from troupe.actors.data.master_data import master_data_kind
from troupe.actors.data.reconciliation import reconcile_kind
from troupe.actors.data.rederivation import DERIVE_AGAIN, derive_kind
from troupe.actors.data.retention import RETENTION, retention_kind
from troupe.actors.data.upkeep import look_after_days
from troupe.common.connections import TEST_CONNECTION
from troupe.common.secrets import Vault
from troupe.http import data as data_routes
from troupe.http import data_imports
from troupe.http.application import Application
from troupe.http.idempotency import sweep_answers
from troupe.platform.group import Group
from troupe.platform.jobs import JobRunner, RunnerSettings
from troupe.platform.schedules import Scheduler
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
    """The data group."""
    group, database = new_group(site, "data")
    settings, jobs = site.configuration.data, site.configuration.jobs
    vault = Vault(site.keys)

    guard = site.guard()
    peers = add_peers(site, group)

    async def run_jobs(child: ChildContext) -> None:
        pool = database.get()
        kinds = {
            INGEST: ingest_kind(pool, vault, group.threads, settings, guard=guard, pool=group.pool),
            IMPORT_MASTER_DATA: master_data_kind(pool, vault, guard, group.threads),
            TEST_CONNECTION: connection_test_kind(pool, vault, guard, group.threads),
            **erasure_kinds(pool, vault),
            RECONCILE: reconcile_kind(pool, vault, group.threads, settings, guard=guard),
            DERIVE_AGAIN: derive_kind(pool, vault),
            RETENTION: retention_kind(pool, vault),
        }
        runner = JobRunner(
            group.name,
            kinds,
            pool=group.pool,
            database=database.get,
            settings=RunnerSettings(
                lease=jobs.lease,
                poll=jobs.poll,
                history_days=jobs.history_days,
                # Within the grace, and with time to hand back what is interrupted: whoever is cut
                # off at its end cannot, and an attempt is lost.
                drain=max(0.2, min(5.0, site.configuration.shutdown.grace / 2 - 1)),
            ),
        )
        await runner.child_spec().start(child)

    group.add_actor(ChildSpec(name="jobs", start=run_jobs, kind="job_runner"))

    async def sweep(child: ChildContext) -> None:
        child.started()
        await sweep_answers(database.get(), child.stopping)

    group.add_actor(ChildSpec(name="sweeper", start=sweep))

    async def look_after(child: ChildContext) -> None:
        child.started()
        await look_after_days(database.get(), child.stopping)

    group.add_actor(ChildSpec(name="upkeep", start=look_after))
    # For the schedules of all groups: a slot is a row and a job, whoever runs the latter.
    group.add_actor(Scheduler(database=database.get).child_spec())

    def build() -> Application:
        app = application(
            site,
            group,
            database.get(),
            credentials_of(site, database.get(), peers.get()),
            description="Extraction, jobs and what is available.",
            settings=http_settings(site, cors_origins=(origin_of(site.dashboard_url),)),
        )
        data_routes.declare(
            app.api,
            database.get(),
            maximum_days=settings.maximum_days,
            maximum_schedules=settings.maximum_schedules,
        )
        data_imports.declare(app.api, database.get(), guard)
        return app

    add_http(site, group, build)
    return group
