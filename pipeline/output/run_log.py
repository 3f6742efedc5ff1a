"""The folder `runs/<run_id>/` of an output: what happened in a run and where its time went (docs/output.md).

Written while the run goes on, in a thread of its own: events in whole files, one after another, since an object store
cannot append; and a summary that is replaced. No label depends on any of it. What cannot be written is told of once and
left out.
"""

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from pipeline.output.files import files_below
from pipeline.storage import STORAGE_ERRORS, StorageOptions, join, read_bytes, storage_error, write_replace
from schemas.errors import OutputError
from schemas.layout import RUN_SUMMARY_FILE, RUNS_FOLDER

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0
PAUSE_GROWTH = 1.2  # a run of a day writes some 300 files of events, not 17,000
CLOSE_WITHIN_S = 30.0

State = Literal["running", "done", "stopped", "failed"]


@dataclass
class RunLog:
    """The log of one run, from `open` to `close`.

    Args:
        about: what the summary says of the run from its beginning.
        so_far: gives what the summary says of it by now.
        say: told once if something cannot be written.
    """

    output: str
    storage: StorageOptions
    about: dict[str, Any]
    so_far: Callable[[], dict[str, Any]]
    say: Callable[[str], None]
    run_id: str = field(default_factory=lambda: f"{_now():%Y%m%dT%H%M%SZ}-{os.urandom(3).hex()}")

    def __post_init__(self) -> None:
        self._started = _now()
        self._events: list[dict[str, Any]] = []
        self._n_files = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._end: dict[str, Any] = {"state": "running"}
        self._is_told = False
        self._thread = threading.Thread(target=self._keep, name="run-log", daemon=True)
        self._thread.start()

    def event(self, name: str, **what: Any) -> None:
        """Something happened now."""
        with self._lock:
            self._events.append({"at": _iso(_now()), "event": name, **what})

    def close(self, state: State, error: str = "") -> None:
        """Write the rest; storage that does not answer is not waited for longer than `CLOSE_WITHIN_S`."""
        self.event("end", state=state)
        self._end = {"state": state, "ended": _iso(_now()), **({"error": error} if error else {})}
        self._closing.set()
        self._thread.join(CLOSE_WITHIN_S)
        if self._thread.is_alive():
            self._tell("storage does not answer")

    def _keep(self) -> None:
        pause_s = FIRST_PAUSE_S
        self._flush()
        while not self._closing.wait(pause_s):
            self._flush()
            pause_s = min(LONGEST_PAUSE_S, pause_s * PAUSE_GROWTH)
        self._flush()

    def _flush(self) -> None:
        with self._lock:
            events, self._events = self._events, []
        lines = "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events)
        if lines:
            self._write(f"events-{self._n_files:05}.jsonl", lines)
            self._n_files += 1
        summary = {"format": "escnet-run/1", "run_id": self.run_id, "started": _iso(self._started), **self._end}
        summary |= {**self.about, **self.so_far()}
        self._write(RUN_SUMMARY_FILE, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")

    def _write(self, name: str, text: str) -> None:
        uri = join(self.output, f"{RUNS_FOLDER}/{self.run_id}/{name}")
        try:
            write_replace(uri, text.encode("utf-8", "backslashreplace"), self.storage)
        except STORAGE_ERRORS as error:
            self._tell(str(storage_error(error, uri, OutputError)))

    def _tell(self, why: str) -> None:
        if not self._is_told:
            self._is_told = True
            self.say(f"the timings of this run are not all kept, its labels are: {why}")


def last_run(output: str, storage: StorageOptions) -> dict[str, Any] | None:
    """The summary of the newest run that has one; None if no run has, or it cannot be read."""
    return next(_summaries(output, storage), None)


def unknown_words(output: str, storage: StorageOptions) -> list[str] | None:
    """Words of the vocabularies that the model was never trained with, by the newest run that knows, or None."""
    said = (run.get("unknown_words") for run in _summaries(output, storage) if run)
    return next((words for words in said if isinstance(words, list)), None)


def pass_on_unknown_words(
    old: str, new: str, command: str, storage: StorageOptions, say: Callable[[str], None]
) -> None:
    """Note in `new`, whose labels are of the model and the words of `old`, what a run of `old` says of these words.

    Nothing is written if no run of `old` knows, or if one of `new` does.
    """
    words = unknown_words(old, storage)
    if words is not None and unknown_words(new, storage) is None:
        RunLog(new, storage, {"command": command, "unknown_words": words}, dict, say).close("done")


def _summaries(output: str, storage: StorageOptions) -> Iterator[dict[str, Any] | None]:
    """The summaries of all runs that have one, the newest first; None for one that cannot be read."""
    names: list[str] = []
    with suppress(OutputError, *STORAGE_ERRORS):
        names = [file.name for file in files_below(join(output, RUNS_FOLDER), storage)]
    for name in sorted((name for name in names if name.endswith(f"/{RUN_SUMMARY_FILE}")), reverse=True):
        summary = None
        with suppress(OutputError, ValueError, *STORAGE_ERRORS):
            summary = json.loads(read_bytes(join(output, f"{RUNS_FOLDER}/{name}"), storage))
        yield summary if isinstance(summary, dict) else None


def read_events(output: str, run_id: str, storage: StorageOptions) -> Iterator[dict[str, Any]]:
    """The events of a run in their order.

    Raises:
        OutputError: storage fails.
    """
    folder = join(output, f"{RUNS_FOLDER}/{run_id}")
    for file in sorted(files_below(folder, storage), key=lambda file: file.name):
        if file.name.endswith(".jsonl"):
            for line in read_bytes(join(folder, file.name), storage).splitlines():
                yield json.loads(line)


def _now() -> datetime:
    return datetime.now(UTC)


def _iso(when: datetime) -> str:
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
