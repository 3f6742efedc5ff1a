"""A web server of pictures that keeps some back until it is told: so a job is held where a test wants it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class PictureServer(ThreadingHTTPServer):
    """Gives the files of a folder."""

    daemon_threads = True
    block_on_close = False  # whoever waits for a picture that is never given may do so
    request_queue_size = 64

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.is_held: Callable[[str], bool] = lambda _: False
        self.gate = threading.Event()

    def hold(self, is_held: Callable[[str], bool]) -> None:
        """From now on keep back those pictures, by name, and give all that were kept back until now."""
        before, self.gate, self.is_held = self.gate, threading.Event(), is_held
        before.set()

    def let_go(self) -> None:
        self.hold(lambda _: False)


class _Handler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        gate = self.server.gate
        if self.server.is_held(self.path.rpartition("/")[2]):
            gate.wait()
        with suppress(ConnectionError):  # nobody may be waiting any more
            super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def picture_server(folder: Path) -> Iterator[PictureServer]:
    """Serve the files of a folder in threads of this process."""
    with PictureServer(folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.let_go()
        server.shutdown()
