"""What went wrong in storage: a kind for a picture's row, and one line for the user.

The line is ours, never the driver's: theirs hold request ids, host ids and signed addresses.
"""

import errno
import os
import time
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import aiohttp
import botocore.exceptions as boto
from botocore.parsers import ResponseParserError

from pipeline.storage.local_files import NO_REGULAR_FILE
from schemas.errors import EscnetError, OutputError
from schemas.manifest import public_uri

StorageKind = Literal["not_found", "forbidden", "storage"]

# Everything that the functions of pipeline.storage let through. ValueError: names no storage can hold (a NUL byte).
STORAGE_ERRORS = (
    OSError, boto.BotoCoreError, boto.ClientError, ResponseParserError, aiohttp.ClientError, ValueError,
)  # fmt: skip


class TooManyBytesError(Exception):
    """A file holds more bytes than its reader takes."""


_NO_CREDENTIALS = (boto.NoCredentialsError, boto.PartialCredentialsError)
_RUN_OUT = (boto.CredentialRetrievalError, boto.TokenRetrievalError, boto.SSOError)
_FORBIDDEN = (PermissionError, *_NO_CREDENTIALS, *_RUN_OUT, boto.ProfileNotFound)
_FORBIDDEN_CODES = ("ExpiredToken", "InvalidToken", "TokenRefreshRequired")  # which come with status 400
_MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_UNREACHABLE = (
    boto.ConnectionError, boto.HTTPClientError, aiohttp.ClientConnectionError, ConnectionError, TimeoutError,
)  # fmt: skip
_CUT_SHORT = (boto.IncompleteReadError, boto.ResponseStreamingError, ResponseParserError, aiohttp.ClientPayloadError)
_BAD_SET_UP = (aiohttp.ClientConnectorCertificateError, boto.InvalidProxiesConfigError)
_IMPOSSIBLE_NAME = (boto.ParamValidationError, aiohttp.InvalidURL)
_MISSING_ERRNOS = (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, NO_REGULAR_FILE)
_PASSING_ERRNOS = (
    errno.EIO, errno.EREMOTEIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EBUSY, errno.EINTR,
    errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH,
)  # fmt: skip
_PASSING_CODES = (  # whatever the status they come with
    "SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "Throttling", "ThrottlingException",
    "RequestLimitExceeded", "TooManyRequests", "OperationAborted", "ConditionalRequestConflict",
)  # fmt: skip
_PASSING_STATUSES = (408, 425, 429, 500, 502, 503, 504)
_ERRNO_REASONS = {
    errno.ENOSPC: "the disk is full; free some space and run again",
    errno.EDQUOT: "the disk quota is used up; free some space and run again",
    errno.EROFS: "the file system is read-only; choose another place",
    NO_REGULAR_FILE: "not a regular file; name a file, or copy what it gives into one",
}


def classify(exc: BaseException) -> StorageKind:
    """The `error_kind` of a failed read: what is not there, what is not allowed, or storage that failed."""
    status = _http_status(exc)
    if isinstance(exc, _FORBIDDEN) or status in (401, 403) or s3_code(exc) in _FORBIDDEN_CODES:
        return "forbidden"
    if isinstance(exc, _MISSING) or status in (404, 410):
        return "not_found"
    if isinstance(exc, _IMPOSSIBLE_NAME) or type(exc) is ValueError:
        return "not_found"  # a name that nothing can have: a NUL byte, a bucket of one letter
    if isinstance(exc, OSError) and exc.errno in _MISSING_ERRNOS and not _response(exc):
        return "not_found"
    return "storage"


def is_transient(exc: BaseException) -> bool:
    """May the same call succeed a little later? Time-outs, dropped connections, servers that are busy or stumble."""
    if s3_code(exc) in _PASSING_CODES:
        return True
    status = _http_status(exc)
    if status is not None and status >= 300:
        return status in _PASSING_STATUSES
    if isinstance(exc, _BAD_SET_UP) or isinstance(_driver_error(exc), _BAD_SET_UP):
        return False
    if isinstance(exc, (*_UNREACHABLE, *_CUT_SHORT)):
        return True
    return isinstance(exc, OSError) and not isinstance(exc, FileExistsError) and exc.errno in _PASSING_ERRNOS


def asked_wait_s(exc: BaseException) -> float | None:
    """For how many seconds a busy web server asks to be left alone; None if it does not say.

    By its Retry-After (RFC 9110, 10.2.3), in seconds or as a date.
    """
    if not isinstance(exc, aiohttp.ClientResponseError) or exc.status not in (429, 503):
        return None
    text = "" if exc.headers is None else exc.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def is_taken(exc: BaseException) -> bool:
    """Did a write fail because of its condition: there is a file already, or another one than expected?"""
    # Ceph does not name the failed condition, so s3fs does not make it a FileExistsError.
    return isinstance(exc, FileExistsError) or s3_code(exc) in ("PreconditionFailed", "412")


def storage_error(exc: BaseException, uri: str, error: type[EscnetError] = OutputError) -> EscnetError:
    """One line for the user: which URI, what storage said, what to do."""
    # A local error says itself which file it was: one in a folder, or the folder above the one asked for.
    name = os.fsdecode(exc.filename) if isinstance(exc, OSError) and isinstance(exc.filename, str | bytes) else uri
    if name.endswith(".partial"):  # a temporary name says nothing to the user; its folder does
        name = os.path.dirname(name)
    return error(f"{public_uri(name)}: {_reason(exc)}")


def s3_code(exc: BaseException) -> str:
    """The code S3 gave ("NoSuchBucket"), or "" if the error is none of S3's."""
    return str(_response(exc).get("Error", {}).get("Code", ""))


def _reason(exc: BaseException) -> str:
    if isinstance(exc, _NO_CREDENTIALS):
        return "no credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give --profile"
    if isinstance(exc, boto.ProfileNotFound):
        return "no such profile in the AWS configuration; see --profile and ~/.aws/config"
    if aiohttp.ClientConnectorCertificateError in (type(exc), type(_driver_error(exc))):
        return "the server's certificate is not trusted; name the authority's in AWS_CA_BUNDLE or SSL_CERT_FILE"
    if isinstance(exc, _UNREACHABLE):
        return "storage cannot be reached; check the network, and --endpoint-url or AWS_ENDPOINT_URL"
    if s3_code(exc) == "NoSuchBucket":
        return "no such bucket; check its name, and --endpoint-url or AWS_ENDPOINT_URL"
    if isinstance(exc, FileExistsError | NotADirectoryError):
        return "a file stands where a folder is needed; choose another place"
    if isinstance(exc, IsADirectoryError):
        return "is a folder, expected a file"
    if isinstance(exc, OSError) and exc.errno in _ERRNO_REASONS:
        return _ERRNO_REASONS[exc.errno]
    kind = classify(exc)
    if kind == "forbidden":
        return "permission denied; check the rights or the credentials"
    if kind == "not_found":
        return "not found; check the name"
    return f"storage failed ({_detail(exc)}); try again"


def _detail(exc: BaseException) -> str:
    if s3_code(exc):
        return f"S3 says {s3_code(exc)}"
    if _http_status(exc):
        return f"HTTP status {_http_status(exc)}"
    if isinstance(exc, OSError) and exc.errno is not None:
        return os.strerror(exc.errno)
    return type(exc).__name__


def _driver_error(exc: BaseException) -> object:
    """What lies below an error of botocore's: that of the connection."""
    return exc.kwargs.get("error") if isinstance(exc, boto.BotoCoreError) else None


def _response(exc: BaseException) -> dict[str, Any]:
    """botocore's response, which s3fs leaves in the cause of the error it raises."""
    for candidate in (exc, exc.__cause__):
        if isinstance(candidate, boto.ClientError):
            return candidate.response
    return {}


def _http_status(exc: BaseException) -> int | None:
    if isinstance(exc, aiohttp.ClientResponseError):
        return exc.status
    return _response(exc).get("ResponseMetadata", {}).get("HTTPStatusCode")
