"""One error tree for the whole program.

An `EscnetError` is something the user can mend: its message names the file, what was found, what was
expected and what to do, and the command line prints it on one line without a traceback. A
`PictureError` never leaves the shard runner: it becomes a failed row.
"""

from typing import Literal

ErrorStage = Literal["fetch", "decode", "segment", "encode"]
ErrorKind = Literal[
    "not_found", "forbidden", "storage", "empty", "not_an_image", "unsupported", "truncated", "corrupt",
    "too_large", "timeout", "out_of_memory", "killed", "internal",
]  # fmt: skip

EXIT_DONE = 0
EXIT_OTHER = 1
EXIT_USAGE = 2
EXIT_TOO_MANY_FAILED = 3
EXIT_INTERRUPTED = 130


class EscnetError(Exception):
    """An error with one clear line for the user. `exit_code` is what the command exits with."""

    exit_code = EXIT_OTHER


class InputError(EscnetError):
    """Wrong usage or a bad input file."""

    exit_code = EXIT_USAGE


class SourceError(InputError):
    """A SOURCE that is missing, empty, forbidden, or not of a kind we read."""


class ManifestError(InputError):
    """A manifest that cannot be read, lacks columns, or names an image twice."""


class VocabularyError(InputError):
    """A vocabulary file that cannot be used."""


class ModelError(InputError):
    """A model name or checkpoint that cannot be used."""


class OutputError(InputError):
    """An output that holds something else, or cannot be written."""


class PlacementError(InputError):
    """More actors, cores or GPUs than the cluster can ever give."""


class JobFailedError(EscnetError):
    """The job cannot go on: storage gone, workers dying, every picture failing."""


class StoppedError(EscnetError):
    """Stopped by Ctrl-C; what is done stays."""

    exit_code = EXIT_INTERRUPTED


class PictureError(Exception):
    """Why one picture became a failed row.

    Args:
        stage: the stage that failed.
        kind: the kind, one of `ErrorKind`.
        message: one line; holds nothing that depends on time, host or run.
    """

    def __init__(self, stage: ErrorStage, kind: ErrorKind, message: str) -> None:
        super().__init__(message)
        self.stage = stage
        self.kind = kind
        self.message = message

    def __reduce__(self) -> tuple:
        return PictureError, (self.stage, self.kind, self.message)
