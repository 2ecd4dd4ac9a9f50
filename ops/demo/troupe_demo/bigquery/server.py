"""The stand-in as a whole: started, used and closed."""

import threading
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from troupe.common.units import SECONDS
from troupe_demo.bigquery.accounts import Accounts
from troupe_demo.bigquery.api import Api
from troupe_demo.bigquery.engine import Engine
from troupe_demo.bigquery.faults import Faults
from troupe_demo.bigquery.jobs import Jobs
from troupe_demo.bigquery.rest import Server
from troupe_demo.bigquery.storage_read import StorageRead

_POLL: Final = 0.1 * SECONDS
_GRACE: Final = 0.2 * SECONDS
_STOP: Final = 0.8 * SECONDS


class StandIn:
    """A running stand-in; a context manager that ends it.

    Attributes:
        root: Where projects, datasets and tables lie.
        url: Of the REST API; also the base of ``token_uri``.
        grpc: ``host:port`` of the Storage Read API.
        faults: Injected faults and the log of requests.
    """

    def __init__(self, root: Path, *, port: int = 0, grpc_port: int = 0) -> None:
        self.root = root.absolute()
        self.root.mkdir(parents=True, exist_ok=True)
        self.faults = Faults()
        with ExitStack() as undo:
            self._engine = Engine(self.root)
            undo.callback(self._engine.close)
            self._jobs = Jobs(self._engine, self.faults)
            undo.callback(self._jobs.close, _STOP)
            accounts = Accounts(self.root)
            api = Api(self._engine, self._jobs, self.faults, accounts)
            self._http = Server(port, api)
            undo.callback(self._http.server_close)
            self.url = api.base_url = f"http://127.0.0.1:{self._http.server_address[1]}"
            storage = StorageRead(self._engine, self._jobs, self.faults, accounts)
            self._grpc, bound = storage.serve(grpc_port)
            self.grpc = f"127.0.0.1:{bound}"
            undo.pop_all()  # it stands; close() takes it down
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=[_POLL], name="bigquery-rest", daemon=True
        )
        self._thread.start()

    @property
    def token_uri(self) -> str:
        """What a service account's file must say."""
        return f"{self.url}/token"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End everything and remove what was temporary, within two seconds.

        A query deep inside DuckDB may take longer to notice; nobody waits for it.
        """
        self.faults.close()
        self._http.shutdown()
        self._http.server_close()
        stopped = self._grpc.stop(_GRACE)
        self._jobs.close(_STOP)
        stopped.wait(_STOP)
        self._engine.close()


def start(root: Path, *, port: int = 0, grpc_port: int = 0) -> StandIn:
    """Start a stand-in in this process, on loopback; port 0 takes any free one."""
    return StandIn(root, port=port, grpc_port=grpc_port)
