"""Which pictures an export takes: all that are labelled, or those of a manifest."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from pipeline.output.labelled import LabelledOutput
from pipeline.sources.manifest import read_manifest
from pipeline.storage import StorageOptions
from schemas.errors import InputError
from schemas.fingerprint import fingerprint
from schemas.job import ShardRef
from schemas.manifest import public_uri
from schemas.quantities import counted


@dataclass(frozen=True)
class Part:
    """The pictures of one shard that are exported.

    Args:
        number: the shard's place among those of the labels.
        first: number of its first picture among all pictures, from 1.
        positions: of the pictures in the shard; None for all.
    """

    number: int
    ref: ShardRef
    first: int
    positions: Collection[int] | None = None

    @property
    def n_pictures(self) -> int:
        return self.ref.n_rows if self.positions is None else len(self.positions)


@dataclass(frozen=True)
class Chosen:
    """What is exported: `n_unknown` pictures were asked for and are not among the labels; `digest` says which were."""

    parts: list[Part]
    n_unknown: int = 0
    digest: str | None = None

    @property
    def n_pictures(self) -> int:
        return sum(part.n_pictures for part in self.parts)


def all_pictures(labels: LabelledOutput) -> Chosen:
    """Every picture in the shards that are done."""
    return Chosen([Part(number, ref, first) for number, ref, first in _numbered(labels)])


def pictures_of(manifest: str, labels: LabelledOutput, storage: StorageOptions) -> Chosen:
    """The pictures that a manifest names by `image_id`. In memory are these ids.

    Raises:
        ManifestError: a manifest that cannot be read. InputError: none of its pictures is among the labels.
    """
    asked = {row.image_id for batch in read_manifest(manifest, storage) for row in batch}
    parts: list[Part] = []
    tables = labels.each_columns(labels.done, ("image_id",))
    for (number, ref, first), (_, table) in zip(_numbered(labels), tables, strict=True):
        positions = frozenset(k for k, name in enumerate(table["image_id"].to_pylist()) if name in asked)
        if positions:
            parts.append(Part(number, ref, first, positions))
    if not parts:
        raise InputError(
            f"{public_uri(manifest)}: none of its {counted(len(asked), 'picture')} is among the labels of vocabulary "
            f"{labels.vocabulary.name!r} in {labels.name}; expected image ids as these have them"
        )
    n_unknown = len(asked) - sum(part.n_pictures for part in parts)
    return Chosen(parts, n_unknown, fingerprint(sorted(asked)))


def _numbered(labels: LabelledOutput) -> Iterator[tuple[int, ShardRef, int]]:
    first = 1
    for number, ref in enumerate(labels.done):
        yield number, ref, first
        first += ref.n_rows
