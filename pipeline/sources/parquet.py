"""A Parquet file as a source: a manifest if it has a column `uri`, else rows that hold the pictures themselves."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.sources.listing import SourceSummary
from pipeline.sources.manifest import open_parquet, parquet_rows, read_manifest
from pipeline.sources.manifest_rows import image_bytes
from pipeline.storage import StorageOptions, open_file
from schemas.errors import ManifestError
from schemas.manifest import ManifestRow, public_uri

IMAGE_COLUMNS = ("image", "bytes", "jpg", "jpeg", "png", "webp")
ID_COLUMNS = ("image_id", "path", "id", "__key__")


def list_parquet(
    uri: str, options: StorageOptions, summary: SourceSummary, stem: str
) -> Iterator[Sequence[ManifestRow]]:
    """Yield the rows of a manifest, or a row for every row with a picture in it, in their order.

    A picture is a binary column, or a struct with `bytes` as Hugging Face writes it. `image_id` is taken from
    the first of `ID_COLUMNS` that is there, else it is `stem/<row>`, counted from 0.

    Raises:
        ManifestError: a file that cannot be read, or with neither a column `uri` nor one of pictures.
    """
    with open_file(uri, options) as file:
        parquet = open_parquet(uri, file)
        if "uri" not in parquet.schema_arrow.names:
            yield from ([row] for row in _pictures(uri, parquet, stem))
            return
    yield from read_manifest(uri, options, summary)


def _pictures(uri: str, parquet: pq.ParquetFile, stem: str) -> Iterator[ManifestRow]:
    image_column = _image_column(uri, parquet.schema_arrow)
    id_column = next((column for column in ID_COLUMNS if column in parquet.schema_arrow.names), None)
    wanted = [image_column] if id_column is None else [image_column, id_column]
    for number, (where, values) in enumerate(parquet_rows(uri, parquet, wanted)):
        where = f"{public_uri(uri)}: {where}"
        image_id = f"{stem}/{number}" if id_column is None else _image_id(values.get(id_column), id_column, where)
        image = image_bytes(values.get(image_column), where)
        # A row without bytes is an empty picture: it becomes a failed row, and is not left out.
        yield ManifestRow(image_id, uri, size_bytes=len(image or b""), image=image or b"")


def _image_column(uri: str, schema: pa.Schema) -> str:
    for column in IMAGE_COLUMNS:
        if column in schema.names and _holds_bytes(schema.field(column).type):
            return column
    raise ManifestError(
        f"{public_uri(uri)}: neither a column 'uri' nor pictures in one of {list(IMAGE_COLUMNS)}, found {schema.names}"
    )


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def _image_id(value: object, column: str, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ManifestError(f"{where}: {column} is {value!r}, expected the picture's id")
    return str(value)
