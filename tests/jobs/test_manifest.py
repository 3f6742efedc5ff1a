"""`escnet manifest build` and `show`, run as the user runs them."""

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from jobs.manifest import manifest
from pipeline.sources.manifest import read_manifest
from pipeline.storage import StorageOptions
from schemas.errors import InputError, ManifestError, OutputError, SourceError


def run(*arguments):
    return CliRunner().invoke(manifest, [str(argument) for argument in arguments])


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, size in {"a.jpg": 1200, "b c.png": 300, "notes.txt": 5}.items():
        (folder / name).write_bytes(bytes(size))
    return folder


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_build_lists_and_show_shows(photos, tmp_path, suffix):
    output = tmp_path / f"m{suffix}"
    built = run("build", photos, "--output", output)
    assert built.exit_code == 0
    assert built.stdout == f"{output}: 2 pictures, 1.5 kB\n  no pictures, left out: 1 .txt\n"
    shown = run("show", output)
    assert shown.exit_code == 0
    assert shown.stdout.splitlines() == [
        "image_id  size_bytes  uri",
        f"a.jpg     1200        {photos}/a.jpg",
        f"b c.png   300         {photos}/b c.png",
        "2 pictures, 1.5 kB",
    ]


def test_show_counts_all_and_shows_some(tmp_path):
    lines = ["uri,vocabulary,split,note"] + [f"/{n}.jpg,{'voc' if n % 2 else 'ade'},train,x" for n in range(30)]
    (tmp_path / "m.csv").write_text("\n".join(lines))
    shown = run("show", tmp_path / "m.csv", "--limit", 2).stdout.splitlines()
    assert shown == [
        "image_id  vocabulary  split  uri",
        "/0.jpg    ade         train  /0.jpg",
        "/1.jpg    voc         train  /1.jpg",
        "30 pictures, sizes unknown",
        "vocabularies: ade 15, voc 15",
        "splits: train 30",
    ]
    assert run("show", tmp_path / "m.csv", "--limit", 0).stdout.splitlines()[0] == "30 pictures, sizes unknown"


def test_show_keeps_signatures_and_line_breaks_out_of_the_table(tmp_path):
    (tmp_path / "m.jsonl").write_text(
        '{"uri": "https://host/a.jpg?X-Amz-Signature=secret", "image_id": "two\\nlines \\u001b[31m"}'
    )
    shown = run("show", tmp_path / "m.jsonl").stdout
    assert "secret" not in shown
    assert shown.splitlines()[1] == r"two\nlines \x1b[31m  https://host/a.jpg"


def test_build_names_columns_it_left_out(tmp_path):
    (tmp_path / "m.csv").write_text("uri,caption\n/a.jpg,cat\n")
    built = run("build", tmp_path / "m.csv", "--output", tmp_path / "n.parquet")
    assert "columns that mean nothing here, left out: caption" in built.stdout


def test_build_to_and_from_object_storage(s3, photos):
    s3.put("photos/a.jpg", b"x")
    uri = s3.uri("m.parquet")
    built = run("build", s3.uri("photos"), photos / "b c.png", "--output", uri, "--endpoint-url", s3.endpoint)
    assert built.stdout == f"{uri}: 2 pictures, 301 bytes\n"
    rows = [row for batch in read_manifest(uri, StorageOptions()) for row in batch]
    assert [row.uri for row in rows] == [s3.uri("photos/a.jpg"), f"{photos}/b c.png"]


def test_build_replaces_only_when_told(photos, tmp_path):
    output = tmp_path / "m.parquet"
    run("build", photos, "--output", output)
    again = run("build", photos / "a.jpg", "--output", output)
    assert isinstance(again.exception, OutputError)
    assert pq.read_metadata(output).num_rows == 2
    assert run("build", photos / "a.jpg", "--output", output, "--overwrite").exit_code == 0
    assert pq.read_metadata(output).num_rows == 1


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["missing"], SourceError),
        (["photos", "photos"], ManifestError),
        (["photos", "--image-root", "x"], InputError),
    ],
)
def test_bad_input_leaves_no_manifest(photos, tmp_path, monkeypatch, arguments, kind):  # noqa: ARG001
    monkeypatch.chdir(tmp_path)
    built = run("build", *arguments, "--output", "m.csv")
    assert isinstance(built.exception, kind)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_help_has_examples():
    for command in ("build", "show"):
        assert f"escnet manifest {command}" in run(command, "--help").stdout
