"""An output that was crashed into against one that was not: nothing missing, nothing doubled, nothing different."""

import io
from collections import Counter
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.layout import LABELS_FOLDER

_RUNS = "runs/"  # events and timings: they differ from run to run
_SHOWN = 5


def differences(found: Mapping[str, bytes], expected: Mapping[str, bytes]) -> list[str]:
    """What is wrong with an output, a line each; empty if it is byte for byte what it should be.

    Args:
        found: the files of the output by their path below it: job.json, vocabularies, manifest and labels.
        expected: those of an uninterrupted run of the same request.
    """
    found = {name: data for name, data in found.items() if not name.startswith(_RUNS)}
    expected = {name: data for name, data in expected.items() if not name.startswith(_RUNS)}
    lines = [f"{name}: missing" for name in sorted(expected.keys() - found.keys())]
    lines += [f"{name}: nobody asked for it" for name in sorted(found.keys() - expected.keys())]
    lines += [
        f"{name}: {len(found[name])} bytes that differ from the {len(data)} of an uninterrupted run"
        for name, data in sorted(expected.items())
        if name in found and found[name] != data
    ]
    return lines + _row_differences(found, expected)


def _row_differences(found: Mapping[str, bytes], expected: Mapping[str, bytes]) -> list[str]:
    """Pictures that are in no row, or in more than one, whatever the files are called."""
    wanted, lines = Counter(_image_ids(expected, [])), list[str]()
    there = Counter(_image_ids(found, lines))
    for what, pictures in (("without a row", wanted - there), ("with a row too many", there - wanted)):
        if pictures:
            shown = ", ".join(sorted(pictures)[:_SHOWN]) + (", ..." if len(pictures) > _SHOWN else "")
            lines.append(f"{pictures.total()} pictures {what}: {shown}")
    return lines


def _image_ids(files: Mapping[str, bytes], unreadable: list[str]) -> list[str]:
    ids: list[str] = []
    for name, data in files.items():
        if name.startswith(f"{LABELS_FOLDER}/") and name.endswith(".parquet"):
            try:
                ids += pq.read_table(io.BytesIO(data), columns=["image_id"])["image_id"].to_pylist()
            except (pa.ArrowException, OSError) as error:
                unreadable.append(f"{name}: cannot be read ({str(error).splitlines()[0]})")
    return ids
