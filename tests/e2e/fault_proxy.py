"""A proxy before an S3 gateway which lets every tenth request fail, in another way each time.

It passes requests on as they are, with their Host header, so that their signatures hold.
"""

import asyncio
import itertools
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

FAULTS = ("500", "503", "reset before", "reset after", "stall")
STALL_S = 60.0  # longer than any client waits
_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER that makes the kernel send a reset
_ERROR = (
    "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
)
_ANSWERS = {"500": ("500 Internal Server Error", "InternalError"), "503": ("503 Slow Down", "SlowDown")}


@dataclass
class FaultProxy:
    """Where it listens, how many requests it saw, and what became of those that failed.

    "reset after" is the nastiest: the gateway has done what was asked, and its answer is lost.
    """

    endpoint: str = ""
    n_requests: int = 0
    faults: Counter[str] = field(default_factory=Counter)


@contextmanager
def fault_proxy(gateway: str, one_in: int = 10, tls: ssl.SSLContext | None = None) -> Iterator[FaultProxy]:
    """Run the proxy in a thread; of every `one_in` requests one fails, of 0 none. With `tls` it is an https address."""
    proxy = FaultProxy()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(_serve(proxy, gateway, one_in, tls), loop).result(10)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


async def _serve(proxy: FaultProxy, gateway: str, one_in: int, tls: ssl.SSLContext | None) -> asyncio.Server:
    kinds = itertools.cycle(FAULTS)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            proxy.n_requests += 1
            fault = next(kinds) if one_in and proxy.n_requests % one_in == 0 else ""
            if fault:
                proxy.faults[fault] += 1
            await _answer(fault, head, reader, writer, urlsplit(gateway))
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, limit=2**20, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    proxy.endpoint = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
    return server


async def _answer(fault: str, head: bytes, reader, writer, gateway) -> None:
    if fault == "stall":
        await asyncio.sleep(STALL_S)
    elif fault in _ANSWERS:
        await _read_body(head, reader, writer)
        status, code = _ANSWERS[fault]
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected</Message></Error>"
        writer.write(_ERROR.format(status=status, length=len(body), body=body).encode())
        await writer.drain()
    elif fault == "reset before":
        _reset(writer)
    else:
        answer = await _pass_on(head, await _read_body(head, reader, writer), gateway)
        if fault == "reset after":
            _reset(writer)
        else:
            writer.write(answer)
            await writer.drain()


async def _read_body(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    headers = _headers(head)
    if headers.get(b"expect", b"").lower() == b"100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
    return await reader.readexactly(int(headers.get(b"content-length", b"0")))


def _headers(head: bytes) -> dict[bytes, bytes]:
    lines = head.split(b"\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines if line)}


async def _pass_on(head: bytes, body: bytes, gateway) -> bytes:
    """The gateway's whole answer. One connection a request: the headers that say so are not signed."""
    first, *lines = head.rstrip(b"\r\n").split(b"\r\n")
    kept = [line for line in lines if line.partition(b":")[0].lower() not in (b"connection", b"expect")]
    reader, writer = await asyncio.open_connection(gateway.hostname, gateway.port)
    writer.write(b"\r\n".join([first, *kept, b"Connection: close", b"", b""]) + body)
    await writer.drain()
    answer = await reader.read()
    writer.close()
    return answer


def _reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    writer.transport.abort()
