"""Errors in BigQuery's own words and shapes.

One class with constructors, because BigQuery distinguishes its errors by data (HTTP status and
``reason``), and clients read exactly these two.
"""

from dataclasses import dataclass
from typing import Any

# The canonical status that Google's APIs put beside the HTTP code.
_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
}

# The HTTP status at which each reason of a failed job surfaces.
HTTP_CODE = {
    "accessDenied": 403,
    "backendError": 503,
    "bytesBilledLimitExceeded": 400,
    "duplicate": 409,
    "internalError": 500,
    "invalid": 400,
    "invalidQuery": 400,
    "notFound": 404,
    "notImplemented": 501,
    "quotaExceeded": 403,
    "rateLimitExceeded": 429,
    "resourcesExceeded": 400,
    "stopped": 200,
    "timeout": 400,
}


@dataclass(eq=False)
class BigQueryError(Exception):
    """A refusal or a failure, as BigQuery would put it.

    Attributes:
        code: HTTP status.
        reason: BigQuery's word for it, such as ``notFound``; clients branch on it.
        message: For a person.
        location: What of the request is wrong, such as ``query``.
        retry_after: Seconds for the ``Retry-After`` header, if any.
    """

    code: int
    reason: str
    message: str
    location: str | None = None
    retry_after: float | None = None

    def __str__(self) -> str:
        return self.message

    def body(self) -> dict[str, Any]:
        """The JSON body of an HTTP answer."""
        item = {"message": self.message, "domain": "global", "reason": self.reason}
        if self.location is not None:
            item |= {"location": self.location, "locationType": "parameter"}
        error = {
            "code": self.code,
            "message": self.message,
            "errors": [item],
            "status": _STATUS.get(self.code, "UNKNOWN"),
        }
        return {"error": error}

    def proto(self) -> dict[str, str]:
        """The ``ErrorProto`` in the status of a job."""
        proto = {"reason": self.reason, "message": self.message}
        return proto if self.location is None else proto | {"location": self.location}

    @classmethod
    def invalid_query(cls, message: str, position: str = "[1:1]") -> "BigQueryError":
        """The text of the query is at fault; ``position`` is ``[line:column]``."""
        return cls(400, "invalidQuery", f"{message} at {position}", "query")

    @classmethod
    def query_failed(cls, message: str) -> "BigQueryError":
        """The query failed on the data it met, such as a division by zero."""
        return cls(400, "invalidQuery", message, "query")

    @classmethod
    def invalid(cls, message: str) -> "BigQueryError":
        """The request is malformed or asks for what the stand-in does not offer."""
        return cls(400, "invalid", message)

    @classmethod
    def not_found(cls, what: str) -> "BigQueryError":
        """``what`` names the kind and the thing: ``Table p:d.t``."""
        return cls(404, "notFound", f"Not found: {what}")

    @classmethod
    def access_denied(cls, what: str, why: str) -> "BigQueryError":
        """The caller has no right to ``what``."""
        return cls(403, "accessDenied", f"Access Denied: {what}: {why}")

    @classmethod
    def for_reason(cls, reason: str, message: str) -> "BigQueryError":
        """An error of that reason at its usual HTTP status."""
        return cls(HTTP_CODE.get(reason, 400), reason, message)
