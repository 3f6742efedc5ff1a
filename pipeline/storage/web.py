"""Web servers: fsspec's driver, and answers that may not be longer than their reader takes."""

from typing import Any

import aiohttp
from fsspec.implementations.http import HTTPFileSystem

from pipeline.storage.errors import TooManyBytesError

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=15)


class BoundedHTTPFileSystem(HTTPFileSystem):
    """fsspec's, where a stranger's server cannot fill the memory, nor keep a request without an end."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(client_kwargs={"timeout": _TIMEOUT}, **kwargs)

    async def _cat_file(
        self, url: str, start: int | None = None, end: int | None = None, max_bytes: int | None = None, **kwargs: Any
    ) -> bytes:
        """As in fsspec; an answer of more than `max_bytes`, unpacked, is left and ends in a TooManyBytesError."""
        if max_bytes is None:
            return await super()._cat_file(url, start, end, **kwargs)
        headers = {} if start is None else {"Range": await self._process_limits(url, start, end)}
        session = await self.set_session()
        async with session.get(self.encode_url(url), headers=headers) as answer:
            self._raise_not_found_for_status(answer, url)
            if (answer.content_length or 0) > max_bytes:
                raise TooManyBytesError
            data = bytearray()
            async for piece in answer.content.iter_any():
                data += piece
                if len(data) > max_bytes:
                    raise TooManyBytesError
        return bytes(data)
