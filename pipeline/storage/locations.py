"""Where a URI leads: the file system behind it, and the path as that file system takes it."""

import os
import re
from dataclasses import dataclass
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from schemas.errors import InputError
from schemas.manifest import is_web_address, public_uri

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_S3_SCHEMES = ("s3", "s3a")


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """How to reach object storage. Credentials come from the environment or the profile, as in the AWS tools."""

    endpoint_url: str | None = None
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class Location:
    """A place: the file system, the path as that file system takes it, and the URI as it was given."""

    fs: Any
    path: str
    uri: str

    @property
    def is_local(self) -> bool:
        return isinstance(self.fs, LocalFileSystem)

    @property
    def is_s3(self) -> bool:
        return self.uri.lower().startswith(tuple(f"{scheme}://" for scheme in _S3_SCHEMES))

    @property
    def is_http(self) -> bool:
        return is_web_address(self.uri)


def locate(uri: str, options: StorageOptions) -> Location:
    """Find the file system of a URI. Local paths become absolute.

    Raises:
        InputError: no driver for the scheme.
    """
    match = _SCHEME.match(uri)
    if match is None or match[1].lower() == "file":
        return Location(LocalFileSystem(), _absolute(uri if match is None else uri[match.end() :]), uri)
    scheme, rest = match[1].lower(), uri[match.end() :]
    fs = _filesystem(scheme, uri, options)
    if scheme in ("http", "https"):
        return Location(fs, uri, uri)
    return Location(fs, f"/{rest.lstrip('/')}" if scheme == "memory" else rest, uri)


def _absolute(path: str) -> str:
    # abspath would take `link/..` for the folder that holds the link, not for the parent of its target.
    return os.path.realpath(path) if ".." in path.split("/") else os.path.abspath(path)


def _filesystem(scheme: str, uri: str, options: StorageOptions) -> Any:
    if scheme in _S3_SCHEMES:
        from pipeline.storage.s3 import LiteralS3FileSystem

        # One request a picture: with more, s3fs asks for the size first. No listings cache: it would hide new files.
        arguments: dict[str, Any] = {"max_concurrency": 1, "use_listings_cache": False}
        if options.endpoint_url:
            arguments["endpoint_url"] = options.endpoint_url
        if options.profile:
            arguments["profile"] = options.profile
        return LiteralS3FileSystem(**arguments)
    if is_web_address(uri):
        from pipeline.storage.web import BoundedHTTPFileSystem

        return BoundedHTTPFileSystem()
    try:
        return fsspec.filesystem(scheme)
    except ImportError as error:
        raise InputError(f"{public_uri(uri)}: no driver for {scheme}://. {error}") from error
    except ValueError as error:
        known = "s3, gs, az, http, https, file"
        raise InputError(f"{public_uri(uri)}: unknown scheme {scheme}://, expected one of {known}") from error
    except TypeError as error:
        advice = "copy the files to one of s3, gs, az, https, or a local disk"
        raise InputError(
            f"{public_uri(uri)}: {scheme}:// needs settings that cannot be given here; {advice}"
        ) from error


def join(folder_uri: str, name: str) -> str:
    """The URI of `name` (with `/` between its parts) below a folder."""
    return f"{folder_uri.rstrip('/')}/{name}"
