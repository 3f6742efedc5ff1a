import pytest

from pipeline.annotation.resolve import resolve_job
from pipeline.storage import StorageOptions
from schemas.job import JobRequest


@pytest.mark.parametrize(
    ("model", "asked", "expected"),
    [
        ("escnet-nano", None, "single"),
        ("escnet-nano", "sliding", "sliding"),
        ("escnet-b16", None, "sliding"),
        ("escnet-b16", "single", "single"),
    ],
)
def test_a_picture_is_seen_in_the_views_the_model_was_made_for_unless_others_are_asked_for(model, asked, expected):
    request = JobRequest(
        sources=("s",), vocabularies=("pascal-voc-20",), output="o", model=model, views=asked, allow_random_weights=True
    )
    assert resolve_job(request, StorageOptions(), [{"CPU": 1.0}]).options.views == expected
