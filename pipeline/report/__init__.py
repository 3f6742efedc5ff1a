"""A report on an output: one HTML file from which a person sees whether a run is good, and where it is bad.

It opens offline in any browser, and its size is bounded by the number of pictures in it, not by that of the output.
"""

from dataclasses import dataclass

from pipeline.json_files import refuse_taken, write_text
from pipeline.output.labelled import open_labelled
from pipeline.report.page import render_page
from pipeline.report.pictures import embed_pictures
from pipeline.report.scores import read_scores
from pipeline.report.survey import survey
from pipeline.storage import StorageOptions
from schemas.errors import one_line
from schemas.manifest import public_uri
from schemas.quantities import counted

DEFAULT_PICTURES = 120
DEFAULT_SHARDS = 500


@dataclass(frozen=True)
class ReportSummary:
    """What went into a report."""

    file: str
    n_bytes: int
    n_pictures: int  # shown
    n_missing: int  # of them without pixels: gone, or not to be read any longer
    n_labelled: int
    n_failed: int
    n_unread: int  # label files without a readable footer, left out

    def lines(self) -> list[str]:
        """What is said on a terminal."""
        said = [f"{self.file}: {counted(self.n_labelled, 'picture')} labelled, {self.n_failed:,} failed"]
        missing = f", {self.n_missing:,} of them by their labels alone" if self.n_missing else ""
        said.append(f"  shown: {self.n_pictures:,}{missing}; {self.n_bytes / 1e6:.1f} MB")
        if self.n_unread:
            said.append(f"  left out: {counted(self.n_unread, 'label file')} that cannot be read; run `escnet verify`")
        return list(map(one_line, said))


def write_report(
    output: str,
    file: str,
    *,
    n_pictures: int = DEFAULT_PICTURES,
    n_shards: int = DEFAULT_SHARDS,
    scores: str | None = None,
    replace: bool = False,
    storage: StorageOptions | None = None,
) -> ReportSummary:
    """Write the report on an output as one HTML file; the same output and options give the same bytes.

    Args:
        output: what `escnet annotate` wrote, finished or not, local or in object storage.
        n_pictures: shown at most.
        n_shards: label files whose statistics are read at most; of the others the footer.
        scores: what `escnet evaluate --json` wrote of this output: its IoUs and calibration are shown.
        replace: replace FILE if it is there.

    Raises:
        InputError: an output or scores that cannot be used, or a file that is there already.
    """
    storage = storage or StorageOptions()
    if not replace:
        refuse_taken(file, storage)
    labels = open_labelled(output, storage)
    measured = None if scores is None else read_scores(scores, labels, storage)
    found = survey(labels, n_shards, n_pictures)
    chosen = found.candidates.choose(n_pictures, found.rarest_first())
    pictures = embed_pictures(labels, chosen.picks)
    text = render_page(labels, found, chosen, pictures, measured)
    n_bytes = write_text(text, file, storage, replace=replace)
    return ReportSummary(
        file=public_uri(file),
        n_bytes=n_bytes,
        n_pictures=len(pictures),
        n_missing=sum(each["image"] is None for each in pictures),
        n_labelled=found.totals.labelled,
        n_failed=sum(found.totals.failed.values()),
        n_unread=len(found.unread),
    )
