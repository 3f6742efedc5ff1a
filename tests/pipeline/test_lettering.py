"""Names in drawings: written in their own letters where a font has these, spelled where none has."""

import pytest
from PIL import ImageFont

from pipeline import lettering
from pipeline.lettering import lettered


@pytest.mark.parametrize(("text", "letter"), [("forêt 12.5%", "ê"), ("лес 3.0%", "л")])
def test_letters_that_the_font_of_pillow_lacks_are_written_by_another(text, letter):
    pytest.importorskip("matplotlib")
    written, font = lettered(text, 13)
    assert (written, bytes(font.getmask(letter)) == bytes(font.getmask("\U0010ffff"))) == (text, False)


def test_names_in_english_keep_the_font_of_pillow(monkeypatch):
    monkeypatch.setattr(lettering, "_font_files", lambda: pytest.fail("looked for fonts"))
    assert lettered("forest 12.5%", 13)[1].getname() == ImageFont.load_default(13).getname()


@pytest.mark.parametrize(("text", "spelled"), [("forêt 12.5%", "foret 12.5%"), ("林 3.0%", r"\u6797 3.0%")])
def test_where_no_font_has_them_names_are_spelled(monkeypatch, text, spelled):
    monkeypatch.setattr(lettering, "_font_files", lambda: iter(["no-such-font.ttf"]))
    assert lettered(text, 13)[0] == spelled
