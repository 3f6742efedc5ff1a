"""What of a picture's address may stand in labels and logs."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.manifest import public_uri


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://[x/a.jpg?token=secret#part", "http://[x/a.jpg"),
        ("http://user:secret@[x/a@b.jpg", "http://[x/a@b.jpg"),
        ("http://user:secret@[x?sig=secret", "http://[x"),
        ("https://ex\u2100mple/a.jpg?sig=secret", "https://ex\u2100mple/a.jpg"),
    ],
)
def test_an_address_that_cannot_be_parsed_is_shown_without_secrets(uri, shown):
    assert public_uri(uri) == shown


@pytest.mark.parametrize("uri", ["HTTP://user:secret@host/a.jpg", "Https://host/a.jpg?X-Amz-Signature=secret&v=1"])
def test_a_scheme_in_capitals_hides_no_less(uri):
    assert "secret" not in public_uri(uri)


@given(st.text(st.characters()))
@example("[x/a.jpg")
@example("h/a?k=\udc80&token=t")
def test_any_text_can_be_shown(rest):
    assert public_uri(f"http://{rest}").startswith("http://")


@pytest.mark.parametrize("name", ["/data/a?token=1.jpg", "s3://bucket/a.jpg?signature=1", "http:/a?token=1", "a b#c"])
def test_what_is_no_web_address_is_shown_as_it_is(name):
    assert public_uri(name) == name
