"""A manifest: one row for every picture of a job."""

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import unquote_plus, urlsplit, urlunsplit

import pyarrow as pa

from schemas.fingerprint import canonical_json

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".avif"))

MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("size_bytes", pa.int64()),
        ("etag", pa.string()),
        ("byte_offset", pa.int64()),
        ("byte_length", pa.int64()),
        ("image", pa.binary()),
        ("mask_uri", pa.string()),
        ("vocabulary", pa.string()),
        ("split", pa.string()),
    ]
)

# Query parameters that sign a URL: secrets that also change from day to day.
_SIGNING_PARAMETERS = frozenset(
    ("expires", "googleaccessid", "key-pair-id", "policy", "sig", "se", "sp", "st", "sv", "sr", "spr", "skoid",
     "sktid", "skt", "ske", "sks", "skv", "hdnts", "q-ak", "q-key-time", "q-header-list", "q-url-param-list")
)  # fmt: skip
_SIGNING_PREFIXES = ("x-amz-", "x-goog-", "x-oss-", "q-sign-")
_SIGNING_PARTS = ("signature", "token", "accesskey", "credential", "password", "passwd", "secret", "apikey", "api_key",
                  "api-key")  # fmt: skip
# What stands before an address that was mistyped, or chained as fsspec does: `simplecache::https://...`.
_BEFORE_ADDRESS = re.compile(r"\A(?:\s|[A-Za-z0-9+.-]+::)*")
_PASSWORD = re.compile(r"\A([A-Za-z][A-Za-z0-9+.-]*://)[^/:@]*:[^/]*@")


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One picture: where it lies and what is known of it. `image` holds the bytes themselves, if anything."""

    image_id: str
    uri: str
    width: int | None = None
    height: int | None = None
    size_bytes: int | None = None
    etag: str | None = None
    byte_offset: int | None = None
    byte_length: int | None = None
    image: bytes | None = None
    mask_uri: str | None = None
    vocabulary: str | None = None
    split: str | None = None


def is_web_address(uri: str) -> bool:
    """Does the URI begin with `http://` or `https://`, in letters of either case?"""
    return uri[:8].lower().startswith(("http://", "https://"))


def public_uri(uri: str) -> str:
    """The URI without signing query parameters or a user's password: what may stand in labels and logs.

    Of a URI that is not http(s) only `user:password@` is taken off; a local name is returned as it is. Never raises:
    an address that cannot be parsed loses all of its query.
    """
    if "://" not in uri:
        return uri
    address = _BEFORE_ADDRESS.sub("", uri)
    before = uri[: len(uri) - len(address)]
    if not is_web_address(address):
        return before + _PASSWORD.sub(r"\1", address)
    try:
        return before + _without_secrets(address)
    except ValueError:
        scheme, _, rest = address.partition("?")[0].partition("://")
        host, slash, path = rest.partition("/")
        return f"{before}{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _without_secrets(uri: str) -> str:
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(
        parts._replace(netloc=host, query=_without_signature(parts.query), fragment=_without_signature(parts.fragment))
    )


def _without_signature(query: str) -> str:
    """The query as it is written, less its signing parameters; old servers part them with `;`."""
    parameters = re.split("([&;])", query)
    kept = [k for k in range(0, len(parameters), 2) if not _is_signing(_key_of(parameters[k]))]
    if 2 * len(kept) > len(parameters):
        return query
    return "".join((parameters[k - 1] if n else "") + parameters[k] for n, k in enumerate(kept))


def _key_of(parameter: str) -> str:
    return unquote_plus(parameter.partition("=")[0]).lower()


def _is_signing(key: str) -> bool:
    return (
        key in _SIGNING_PARAMETERS or key.startswith(_SIGNING_PREFIXES) or any(part in key for part in _SIGNING_PARTS)
    )


def row_identity(row: ManifestRow) -> str:
    """What makes this row this picture: a changed name, place, size, etag or byte range is another picture."""
    image_hash = None if row.image is None else hashlib.sha256(row.image).hexdigest()
    return canonical_json(
        [row.image_id, public_uri(row.uri), row.size_bytes, row.etag, row.byte_offset, row.byte_length, image_hash]
    )
