"""A COCO file gives its pictures, wherever beside it they lie."""

import json

import pytest

from pipeline.sources import SourceSummary, list_source, list_sources
from pipeline.storage import StorageOptions
from schemas.errors import SourceError
from schemas.manifest import ManifestRow

OPTIONS = StorageOptions()
IMAGES = [
    {"id": 2, "file_name": "b.jpg", "width": 640, "height": 480, "coco_url": "http://host/b.jpg"},
    {"id": 1, "file_name": "sub/a b.jpg", "coco_url": "http://host/a.jpg"},
]


def coco_file(folder, images=IMAGES, **others):
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": [], **others}))
    return str(path)


def put_pictures(folder):
    (folder / "sub").mkdir(parents=True)
    (folder / "b.jpg").touch()
    (folder / "sub" / "a b.jpg").touch()


def rows_of(source, image_root=None):
    return list(list_source(source, OPTIONS, SourceSummary(), image_root=image_root))


@pytest.mark.parametrize("below", [".", "images"])
def test_pictures_beside_the_file_or_in_images(tmp_path, below):
    root = tmp_path / below
    put_pictures(root)
    assert rows_of(coco_file(tmp_path)) == [
        ManifestRow("b.jpg", f"{root}/b.jpg", width=640, height=480),
        ManifestRow("sub/a b.jpg", f"{root}/sub/a b.jpg"),
    ]


def test_an_image_root_wins(tmp_path):
    put_pictures(tmp_path / "images")
    put_pictures(tmp_path / "elsewhere")
    rows = list(list_sources([coco_file(tmp_path)], OPTIONS, SourceSummary(), image_root=str(tmp_path / "elsewhere")))
    assert rows[0].uri == f"{tmp_path}/elsewhere/b.jpg"


def test_one_missing_picture_does_not_hide_the_folder(tmp_path):
    put_pictures(tmp_path)
    (tmp_path / "b.jpg").unlink()
    assert [row.uri for row in rows_of(coco_file(tmp_path))] == [f"{tmp_path}/b.jpg", f"{tmp_path}/sub/a b.jpg"]


def test_without_pictures_beside_it_their_addresses_are_taken(tmp_path):
    rows = rows_of(coco_file(tmp_path))
    assert [(row.image_id, row.uri) for row in rows] == [
        ("b.jpg", "http://host/b.jpg"),
        ("sub/a b.jpg", "http://host/a.jpg"),
    ]


def test_places_tried_are_named(tmp_path):
    images = [{"file_name": "b.jpg"}]
    with pytest.raises(SourceError) as caught:
        rows_of(coco_file(tmp_path, images))
    assert str(caught.value) == (
        f"{tmp_path}/instances.json: b.jpg is neither in {tmp_path} nor in {tmp_path}/images, "
        "and there is no coco_url; give --image-root FOLDER"
    )
    with pytest.raises(SourceError, match="correct --image-root"):
        rows_of(coco_file(tmp_path), image_root=str(tmp_path / "wrong"))


def test_a_coco_file_on_object_storage(s3):
    s3.put("data/images/b.jpg", b"x")
    source = s3.put("data/instances.json", json.dumps({"images": IMAGES}).encode())
    assert [row.uri for row in rows_of(source)] == [s3.uri("data/images/b.jpg"), s3.uri("data/images/sub/a b.jpg")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2", "no valid JSON"),
        ("[]", "no COCO file: it has no list `images`"),
        ('{"images": {"a": 1}}', "no COCO file"),
        ('{"images": [{"id": 1}]}', "images[0] has no file_name"),
        ('{"images": []}', "no pictures there"),
        (
            '{"images": [{"file_name": "b.jpg", "coco_url": "http://h/b", "width": "wide"}]}',
            "images[0]: width is 'wide'",
        ),
    ],
)
def test_what_is_no_coco_file(tmp_path, text, said):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(SourceError) as caught:
        rows_of(f"{tmp_path}/a.json")
    assert str(caught.value).startswith(f"{tmp_path}/a.json: ")
    assert said in str(caught.value)


def test_the_real_panoptic_file(shared_data):
    rows = rows_of(str(shared_data / "photos" / "panoptic.json"))
    assert len(rows) == 100
    assert rows[0].uri == str(shared_data / "photos" / "images" / "000000000400.jpg")
    assert (rows[0].width, rows[0].height) == (638, 640)
