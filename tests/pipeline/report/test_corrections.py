"""A mask that a person put in place of the model's is what is looked at."""

import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from pipeline.comparison import compare
from pipeline.comparison.summary import comparison_lines
from pipeline.output.overrides import mask_classes, write_overrides
from pipeline.output.status import status, status_lines
from pipeline.report import write_report
from pipeline.selection import select
from pipeline.show import show
from pipeline.storage import StorageOptions
from schemas.overrides import Override
from tests.browser import browser
from tests.pipeline.labelled_output import NOON
from tests.pipeline.report.output import WORDS, write_pictures

__all__ = ["browser"]


@pytest.fixture
def outputs(tmp_path):
    """The output as the model made it, and one in which a person says that a.png is all sky."""
    (tmp_path / "model").mkdir()
    (tmp_path / "person").mkdir()
    before, after = write_pictures(tmp_path / "model"), write_pictures(tmp_path / "person")
    mask = np.full((24, 32), 9, np.uint8)
    png = io.BytesIO()
    Image.fromarray(mask).save(png, "PNG")
    classes, ignored = mask_classes(mask, WORDS)
    write_overrides(
        [Override("a.png", "words", 32, 24, png.getvalue(), classes, ignored, "ann", NOON, "x")],
        after,
        StorageOptions(),
    )
    return before, after


def test_show_draws_it_and_says_whose_it_is(outputs, tmp_path):
    drawn = show(outputs[1], "a.png", str(tmp_path / "x.png"), view="labels")
    assert drawn.correction is not None
    assert (drawn.correction.author, drawn.correction.time) == ("ann", NOON)
    pixels = np.asarray(Image.open(tmp_path / "x.png"))
    assert pixels[3, 28].tolist() == [90, 200, 250]
    by_whom, when = pixels[28:46, 32:], pixels[48:66, 32:]  # below the line of the only class
    assert (by_whom.min(), when.min()) == (0, 0)
    assert show(outputs[0], "a.png", str(tmp_path / "y.png")).correction is None


def test_a_mask_by_a_person_has_no_confidence_in_the_page(outputs, tmp_path, browser):
    from selenium.webdriver.support.ui import WebDriverWait

    write_report(outputs[1], str(tmp_path / "r.html"))
    browser.get(f"file://{tmp_path}/r.html")
    browser.execute_script("document.querySelector('input[value=confidence]').click()")
    cards = browser.find_elements("css selector", "#sheet .card")
    card = next(each for each in cards if each.text.startswith("a.png"))
    assert card.text.split("\n") == ["a.png", "0.0% ignored", "corrected by a person"]
    assert len(card.find_elements("css selector", "figcaption span")) == 3  # and no empty one before these
    card.find_element("css selector", "canvas").click()
    WebDriverWait(browser, 20).until(lambda d: d.find_element("css selector", "#viewer").is_displayed())
    assert len(browser.find_elements("css selector", "#viewer canvas")) == 3
    assert browser.find_element("css selector", "#viewer-note").text == "Classes, with their share of the picture:"


def test_the_report_shows_it_and_says_so(outputs, tmp_path):
    write_report(outputs[1], str(tmp_path / "r.html"))
    data = json.loads(re.search(r'id="data">(.*?)</script>', (tmp_path / "r.html").read_text(), re.S)[1])
    shown = {picture["id"]: picture for picture in data["pictures"]}
    assert (shown["a.png"]["corrected"], shown["d.png"]["corrected"]) == (True, False)
    assert (shown["a.png"]["codes"], shown["a.png"]["classes"]) == ([2], [[2, 1.0, None]])
    assert shown["a.png"]["confidence"] is None


def test_a_comparison_sees_it_and_says_so(outputs):
    found = compare(*outputs)
    assert found.worst[0] == ("a.png", 0.0, ("second",))
    assert (found.n_corrected_first, found.n_corrected_second) == (0, 1)
    assert found.as_json()["worst"][0] == {"image_id": "a.png", "agreement": 0.0, "corrected": ("second",)}
    lines = comparison_lines(found)
    assert "  corrected        0 in the first, 1 in the second, by people" in lines
    assert lines[-1] == "  0.000  a.png, corrected in the second"
    assert not [line for line in comparison_lines(compare(outputs[0], outputs[0])) if "corrected" in line]


def test_status_counts_it(outputs):
    of_model, of_person = map(status, outputs)
    assert (of_model.n_corrected, of_person.n_corrected, of_person.as_json()["n_corrected"]) == (0, 1, 1)
    assert "  corrected: 1 picture, by people" in status_lines(of_person)
    assert not [line for line in status_lines(of_model) if "corrected" in line]


def test_select_leaves_it_out(outputs, tmp_path):
    n_chosen = [select(each, 10, str(tmp_path / f"{k}.parquet")).n_chosen for k, each in enumerate(outputs)]
    assert n_chosen == [5, 4]
