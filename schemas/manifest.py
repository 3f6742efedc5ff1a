"""A manifest: one row for every picture of a job."""

import hashlib
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

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
_SIGNING_PARTS = ("signature", "token", "accesskey", "credential")


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

    Only http(s) URIs are parsed; every other URI, and every local name, is returned as it is. Never raises: one that
    cannot be parsed loses all of its query.
    """
    if not is_web_address(uri):
        return uri
    try:
        return _without_secrets(uri)
    except ValueError:
        scheme, _, rest = uri.partition("?")[0].partition("://")
        host, slash, path = rest.partition("/")
        return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _without_secrets(uri: str) -> str:
    parts = urlsplit(uri)
    kept = [
        (key, value) for key, value in parse_qsl(parts.query, keep_blank_values=True) if not _is_signing(key.lower())
    ]
    query = parts.query if len(kept) == len(parse_qsl(parts.query, keep_blank_values=True)) else urlencode(kept)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=query))


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
