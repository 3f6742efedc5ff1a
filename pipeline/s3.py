"""S3 as this program needs it: keys are taken literally, and a listing comes page by page."""

from collections.abc import Iterator
from typing import Any

from s3fs import S3FileSystem


class LiteralS3FileSystem(S3FileSystem):
    """s3fs without its reading of `?versionId=` and access-point ARNs into keys: a key is only a key."""

    def split_path(self, path: str) -> tuple[str, str, None]:
        bucket, _, key = path.removeprefix("s3://").removeprefix("s3a://").partition("/")
        return bucket, key, None


def list_objects(fs: S3FileSystem, bucket: str, prefix: str, delimiter: str = "") -> Iterator[dict[str, Any]]:
    """Yield what S3 says of each object whose key begins with `prefix`, in byte order of the keys.

    One page (1000 objects) is held at a time, where `fs.find` would hold the whole bucket.
    """
    request = {"Bucket": bucket, "Prefix": prefix, "Delimiter": delimiter}
    while True:
        page = fs.call_s3("list_objects_v2", **request)
        yield from page.get("Contents", [])
        if not page.get("IsTruncated"):
            return
        request["ContinuationToken"] = page["NextContinuationToken"]
