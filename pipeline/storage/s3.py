"""S3 as this program needs it: literal keys, listings page by page, uploads in parts, and no request without an end."""

import asyncio
import errno
import hashlib
import io
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from fsspec.asyn import sync, sync_wrapper
from s3fs import S3FileSystem
from s3fs.core import _error_wrapper

from pipeline.storage.errors import STORAGE_ERRORS, TooManyBytesError
from pipeline.storage.retries import retried

_PIECE_BYTES = 2**20


class LiteralS3FileSystem(S3FileSystem):
    """s3fs, with three differences.

    A key is only a key: `?versionId=` and access-point ARNs are not read into it. A request fails once nothing has
    moved for `stall_s`. And a failed request is not repeated here, nor by botocore: `retried` does that.
    """

    connect_timeout = 5
    read_timeout = 15
    stall_s = 30.0
    retries = 1

    def split_path(self, path: str) -> tuple[str, str, None]:
        bucket, _, key = path.removeprefix("s3://").removeprefix("s3a://").partition("/")
        return bucket, key, None

    def _prepare_config_kwargs(self) -> dict[str, Any]:
        mine: dict[str, Any] = {"retries": {"total_max_attempts": 1}}
        if "AWS_REQUEST_CHECKSUM_CALCULATION" not in os.environ:
            # Over TLS botocore's default sends a checksum behind the body, in pieces without a length: Ceph 16 and
            # others refuse that. What is sent is checked all the same, by TLS, or as part of the signature.
            mine["request_checksum_calculation"] = "when_required"
        return {**super()._prepare_config_kwargs(), **mine}

    async def _call_s3(self, method: str, *akwarglist: Any, **kwargs: Any) -> Any:
        """One request. aiohttp's own time-outs do not run while a body is sent, or waits to be asked for."""
        body = _Body(kwargs["Body"]) if isinstance(kwargs.get("Body"), bytes) else None
        if body is not None:
            kwargs["Body"] = body
        started = time.monotonic()
        request = asyncio.ensure_future(super()._call_s3(method, *akwarglist, **kwargs))
        try:
            while True:
                moved = started if body is None else max(started, body.read_at)
                left = moved + self.stall_s - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"{method}: nothing moved for {self.stall_s:.0f} s")
                if (await asyncio.wait((request,), timeout=left))[0]:
                    return request.result()
        except TimeoutError as error:
            # fsspec would make one without arguments of it, and where a file is read s3fs looks at the arguments.
            raise ConnectionError(errno.ETIMEDOUT, str(error) or os.strerror(errno.ETIMEDOUT)) from error
        finally:
            request.cancel()  # does nothing to one that is done

    call_s3 = sync_wrapper(_call_s3)

    async def _cat_file(self, path: str, *args: Any, max_bytes: int | None = None, **kwargs: Any) -> bytes:
        """As in s3fs; an answer of more than `max_bytes` is not read to its end, which is a TooManyBytesError."""
        if max_bytes is None:
            return await super()._cat_file(path, *args, **kwargs)
        bucket, key, _ = self.split_path(path)
        start, end = kwargs.get("start"), kwargs.get("end")
        limits = {} if start is None else {"Range": await self._process_limits(path, start, end)}

        async def read() -> bytes:
            answer = await self._call_s3("get_object", Bucket=bucket, Key=key, **limits)
            try:
                if answer.get("ContentLength", 0) > max_bytes:  # some gateways do not say how much is to come
                    raise TooManyBytesError
                data = bytearray()
                while piece := await answer["Body"].read(_PIECE_BYTES):
                    data += piece
                    if len(data) > max_bytes:
                        raise TooManyBytesError
                return bytes(data)
            finally:
                answer["Body"].close()

        return await _error_wrapper(read, retries=self.retries)

    def ls(self, path: str, detail: bool = False, **kwargs: Any) -> list[Any]:
        return retried(f"s3://{path}", lambda: sync(self.loop, self._ls, path, detail=detail, **kwargs))


class _Body(io.BytesIO):
    """What is sent; knows when the last piece of it was taken."""

    read_at = float("-inf")

    def read(self, size: int | None = -1, /) -> bytes:
        self.read_at = time.monotonic()
        return super().read(size)


def list_objects(fs: S3FileSystem, bucket: str, prefix: str, delimiter: str = "") -> Iterator[dict[str, Any]]:
    """Yield what S3 says of each object whose key begins with `prefix`, in byte order of the keys.

    One page (1000 objects) is held at a time, where `fs.find` would hold the whole bucket; a page that fails is
    asked for again, and not the pages before it.
    """
    request = {"Bucket": bucket, "Prefix": prefix, "Delimiter": delimiter}
    while True:
        page = retried(f"s3://{bucket}/{prefix}", lambda: fs.call_s3("list_objects_v2", **request))
        yield from page.get("Contents", [])
        if not page.get("IsTruncated"):
            return
        request["ContinuationToken"] = page["NextContinuationToken"]


def upload_in_parts(fs: S3FileSystem, bucket: str, key: str, parts: Iterable[bytes], *, create: bool) -> None:
    """Publish an object too large for one PUT; an upload that fails is aborted.

    Args:
        parts: at least one; all but the last of the same size, which is 5 MiB or more.
        create: only if there is none. Not every store heeds that here (Ceph does not): look before, under a lock.
    """
    uri, where = f"s3://{bucket}/{key}", {"Bucket": bucket, "Key": key}
    upload = retried(uri, lambda: fs.call_s3("create_multipart_upload", **where))["UploadId"]
    where["UploadId"] = upload
    etags: list[str] = []
    try:
        for number, part in enumerate(parts, start=1):
            request = {**where, "PartNumber": number, "Body": part}
            etags.append(retried(uri, lambda request=request: fs.call_s3("upload_part", **request))["ETag"])  # type: ignore[misc]
        _complete(fs, where, etags, {"IfNoneMatch": "*"} if create else {})
    except BaseException:
        with suppress(*STORAGE_ERRORS):
            retried(uri, lambda: fs.call_s3("abort_multipart_upload", **where))
        raise


def _complete(fs: S3FileSystem, where: dict[str, str], etags: list[str], condition: dict[str, str]) -> None:
    listed = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, start=1)]
    request = {**where, "MultipartUpload": {"Parts": listed}, **condition}
    try:
        retried(_uri(where), lambda: fs.call_s3("complete_multipart_upload", **request))
    except FileNotFoundError:  # no such upload: perhaps because it was completed, and the answer got lost
        found = retried(_uri(where), lambda: fs.call_s3("head_object", Bucket=where["Bucket"], Key=where["Key"]))
        if found["ETag"].strip('"') != _etag_of_parts(etags):
            raise


def _uri(where: dict[str, str]) -> str:
    return f"s3://{where['Bucket']}/{where['Key']}"


def _etag_of_parts(etags: list[str]) -> str:
    try:
        digests = b"".join(bytes.fromhex(etag.strip('"')) for etag in etags)
    except ValueError:  # a store with etags of its own making
        return ""
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(etags)}"


def abort_uploads(fs: S3FileSystem, bucket: str, prefix: str) -> int:
    """Abort uploads in parts that were begun directly below `prefix` ("" or ending with `/`); how many there were.

    Their parts are paid for and seen in no listing of objects.
    """
    found = list(_list_uploads(fs, bucket, prefix))
    for upload in found:
        where = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
        with suppress(FileNotFoundError):
            retried(_uri(where), lambda where=where: fs.call_s3("abort_multipart_upload", **where))  # type: ignore[misc]
    return len(found)


def _list_uploads(fs: S3FileSystem, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    request = {"Bucket": bucket, "Prefix": prefix, "Delimiter": "/"}
    while True:
        page = retried(f"s3://{bucket}/{prefix}", lambda: fs.call_s3("list_multipart_uploads", **request))
        yield from page.get("Uploads", [])
        if not page.get("IsTruncated"):
            return
        request["KeyMarker"], request["UploadIdMarker"] = page["NextKeyMarker"], page["NextUploadIdMarker"]
