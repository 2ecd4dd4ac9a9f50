"""The data group's routes about master data: uploads, what became of files, the host key."""

from typing import Final
from uuid import UUID

from quart import Response

from troupe.actors.data.job_requests import IMPORT_MASTER_DATA
from troupe.actors.data.master_files import known_files, take_upload
from troupe.actors.data.master_reports import read_report
from troupe.actors.data.master_sftp import MAX_FILE
from troupe.actors.data.master_trust import shown_key, trust_key
from troupe.common.database import Database
from troupe.common.errors import InvalidInput, NotFound
from troupe.common.outbound import OutboundGuard
from troupe.common.units import MINUTES
from troupe.http import import_models as models
from troupe.http.conventions import ListAnswer
from troupe.http.credentials import who_acts
from troupe.http.data_models import JobAnswer
from troupe.http.declaration import Answer, Media, Upload
from troupe.http.principal import Principal, Role
from troupe.http.routes import Api
from troupe.http.uploads import Received
from troupe.platform.jobs import JobStore

UPLOAD_DEADLINE: Final = 10 * MINUTES
"""For the whole file to come: 64 MiB over a line of 1 Mbit/s."""
FILE_TYPES: Final = (
    "application/octet-stream",
    "text/csv",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
)
CSV: Final = Media("text/csv; charset=utf-8", "The faults of rows, one in each line.")


def declare(api: Api, database: Database, guard: OutboundGuard) -> None:
    """Declare the routes.

    Args:
        api: Of the application.
        database: The group's pool.
        guard: Checks the hosts that tenants name.
    """
    _declare_uploads(api, database)
    _declare_files(api, database)
    _declare_host_key(api, database, guard)


def _declare_uploads(api: Api, database: Database) -> None:
    @api.post(
        "/api/v1/uploads",
        requires=Role.ANALYST,
        query=models.UploadQuery,
        upload=Upload(FILE_TYPES, MAX_FILE),
        answers={202: models.UploadAnswer},
        creates=True,
        deadline=UPLOAD_DEADLINE,
        summary="Upload a file of customers or locations",
    )
    async def upload_file(
        *, principal: Principal, query: models.UploadQuery, upload: Received
    ) -> Answer:
        """A job loads it, and until then the file is held.

        It is read as the file at the tenant's SFTP server would be; without one, its headers are
        the names of our own columns.
        """
        if not upload.size:
            raise InvalidInput("The file is empty.", [("", "must have a header and rows")])
        file_id, job = await take_upload(
            database,
            principal.tenant_id,
            content=query.content,
            name=query.name,
            body=upload.file,
            size=upload.size,
            sha256=upload.sha256,
        )
        answer = models.UploadAnswer(
            upload_id=file_id, size=upload.size, sha256=upload.sha256.hex(), job=JobAnswer.of(job)
        )
        return Answer(answer, 202, {"Location": f"/api/v1/jobs/{job.id}"})


def _declare_files(api: Api, database: Database) -> None:
    store = JobStore(database)

    @api.get(
        "/api/v1/imports/files",
        requires=Role.VIEWER,
        query=models.FilesQuery,
        answers={200: ListAnswer[models.FileAnswer]},
        summary="Which files of customers and locations are known, and what became of each",
    )
    async def list_files(
        *, principal: Principal, query: models.FilesQuery
    ) -> ListAnswer[models.FileAnswer]:
        files = await known_files(database, principal.tenant_id, limit=query.limit)
        return ListAnswer[models.FileAnswer](data=[models.FileAnswer.of(file) for file in files])

    @api.get(
        "/api/v1/imports/<uuid:job_id>/errors",
        requires=Role.ANALYST,
        answers={200: CSV},
        summary="Which rows an import has left out, and why",
    )
    async def download_errors(*, principal: Principal, job_id: UUID) -> Response:
        """For a spreadsheet: a line for each fault.

        It names lines and columns, quotes no cell, is kept for 90 days, and tells at most 10,000
        faults of a file.
        """
        job = await store.get(principal.tenant_id, job_id)
        if job.kind != IMPORT_MASTER_DATA:
            raise NotFound("The job is not an import.")
        return Response(
            await read_report(database, principal.tenant_id, job_id),
            content_type=CSV.content_type,
            headers={
                "Content-Disposition": f'attachment; filename="import-errors-{job_id}.csv"',
                "Cache-Control": "private, no-store",
            },
        )


def _declare_host_key(api: Api, database: Database, guard: OutboundGuard) -> None:
    @api.get(
        "/api/v1/sftp/host-key",
        requires=Role.ADMIN,
        answers={200: models.HostKeyAnswer},
        problems=(404, 502),
        summary="The host key that the tenant's SFTP server shows now",
    )
    async def show_host_key(*, principal: Principal) -> models.HostKeyAnswer:
        """Compare the fingerprint with what the server's operator says, then confirm it.

        This connects to the server, but names no account and sends no secret.
        """
        return models.HostKeyAnswer.of(await shown_key(database, principal.tenant_id, guard))

    @api.put(
        "/api/v1/sftp/host-key",
        requires=Role.ADMIN,
        body=models.HostKeyBody,
        answers={200: models.HostKeyAnswer},
        problems=(404, 409, 412, 502),
        summary="Trust the host key that the tenant's SFTP server shows",
    )
    async def trust_host_key(
        *, principal: Principal, body: models.HostKeyBody
    ) -> models.HostKeyAnswer:
        """Only if the server shows that very key; who has confirmed it stands in the audit log."""
        trusted = await trust_key(
            database,
            principal.tenant_id,
            guard,
            fingerprint=body.fingerprint,
            actor=who_acts(principal),
        )
        return models.HostKeyAnswer.of(trusted)
