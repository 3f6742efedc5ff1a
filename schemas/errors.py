"""One error tree for the whole program.

An `EscnetError` is something the user can mend: its message names the file, what was found, what was
expected and what to do, and the command line prints it on one line without a traceback. A
`PictureError` never leaves the shard runner: it becomes a failed row.
"""

import re
from typing import Literal

ErrorStage = Literal["fetch", "decode", "segment", "encode"]
ErrorKind = Literal[
    "not_found", "forbidden", "storage", "empty", "not_an_image", "unsupported", "truncated", "corrupt",
    "too_large", "timeout", "out_of_memory", "killed", "internal",
]  # fmt: skip

# Failures that may be gone another time; the others lie in the bytes of a picture, which must be mended first.
PASSING_KINDS: frozenset[ErrorKind] = frozenset(
    ("not_found", "forbidden", "storage", "timeout", "out_of_memory", "killed", "internal")
)

EXIT_DONE = 0
EXIT_OTHER = 1
EXIT_USAGE = 2
EXIT_TOO_MANY_FAILED = 3
EXIT_INTERRUPTED = 130


MAX_LINE_CHARACTERS = 2000
# What moves a terminal's cursor, sets its title, ends a line or turns the direction of writing around; half surrogate
# pairs, which no terminal takes. Joiners stay: words of many languages and emoji need them.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: str) -> str:
    """The text as one line that does nothing to a terminal: control characters are spelled out, as in `\\x1b`."""
    return _UNPRINTABLE.sub(lambda match: repr(match[0])[1:-1], text)


def one_line(text: str) -> str:
    """The text made `printable`; one of more than `MAX_LINE_CHARACTERS` loses its middle.

    A line that was made so stays as it is.
    """
    line = printable(text)
    if len(line) <= MAX_LINE_CHARACTERS:
        return line
    half = (MAX_LINE_CHARACTERS - 5) // 2
    return f"{line[:half]} ... {line[-half:]}"


class EscnetError(Exception):
    """An error with one clear line for the user. `exit_code` is what the command exits with.

    File names and other people's texts may stand in the message: it is made `one_line`.
    """

    exit_code = EXIT_OTHER

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


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
        message: holds nothing that depends on time, host or run; it is made `one_line`.
    """

    def __init__(self, stage: ErrorStage, kind: ErrorKind, message: str) -> None:
        message = one_line(message)
        super().__init__(message)
        self.stage = stage
        self.kind = kind
        self.message = message

    def __reduce__(self) -> tuple:
        return PictureError, (self.stage, self.kind, self.message)
