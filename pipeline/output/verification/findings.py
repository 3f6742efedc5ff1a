"""What a check says: what does not hold, of which file, and what has been proven."""

from dataclasses import dataclass, field

REDO = "remove the file and run the same `escnet annotate` command again"
RESTORE = "put the original back, or label into a new output"

_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not hold.

    Args:
        file: its name below the output.
        found, expected, advice: what is there, what should be, and what to do.
        image_id: the picture, where one row alone is at fault.
    """

    file: str
    found: str
    expected: str
    advice: str
    image_id: str | None = None

    @property
    def line(self) -> str:
        """The finding on one line."""
        picture = "" if self.image_id is None else f", picture {self.image_id!r}"
        return f"{self.file}{picture}: found {self.found}, expected {self.expected}; {self.advice}"


@dataclass
class LabelCheck:
    """What became of one label file.

    Args:
        name: of the file, below the output.
        n_rows, n_bytes: what was compared in full; 0 if only the footer was looked at.
        findings: empty if all of it holds.
        writer: the Parquet writer that the file names, if it is not this machine's: then its bytes were not compared.
    """

    name: str
    n_rows: int = 0
    n_bytes: int = 0
    findings: list[Finding] = field(default_factory=list)
    writer: str | None = None


def printable(name: str) -> str:
    """The name of a file that may hold anything, on one line that any terminal takes."""
    return name if name.isprintable() else name.encode("unicode_escape").decode()


def shown(value: object) -> str:
    """A value from a file that may hold anything, as a short piece of one line."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
