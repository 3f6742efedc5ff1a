"""The page in a real browser: it loads nothing, and sliders, sheets, hover and classes do what they say."""

import pytest

from pipeline.report import write_report
from tests.browser import browser
from tests.pipeline.report.output import NASTY, write_pictures

__all__ = ["browser"]

DRAWN = "return [...document.querySelectorAll('%s')].every((each) => each.dataset.drawn)"
PIXEL = """
const at = arguments[0].getContext("2d").getImageData(arguments[1], arguments[2], 1, 1).data;
return [at[0], at[1], at[2]];
"""
HATCHES = ([0x2B] * 3, [0x57] * 3)
LAND = [200, 120, 40]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    write_report(write_pictures(folder), str(folder / "r.html"))
    return f"file://{folder}/r.html"


@pytest.fixture
def opened(browser, page):
    """The page, freshly opened and drawn."""
    browser.get("about:blank")
    browser.get(page)
    wait(browser, "#sheet canvas")
    return browser


def wait(driver, canvases):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 120).until(lambda d: d.execute_script(DRAWN % canvases))


def until(driver, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, 120).until(condition)


def find(driver, selector):
    return driver.find_element("css selector", selector)


def canvas_of(driver, name):
    cards = driver.find_elements("css selector", "#sheet .card")
    return next(c for c in cards if find(c, ".name").text == name).find_element("css selector", "canvas")


def show(driver, view):
    find(driver, f"input[value={view}] + span").click()
    until(
        driver, lambda d: d.execute_script(f"return document.querySelector('#sheet canvas').dataset.drawn === '{view}'")
    )


def move_threshold(driver, steps):
    from selenium.webdriver import Keys

    find(driver, "#threshold").send_keys(Keys.HOME, *[Keys.ARROW_RIGHT] * steps)
    until(driver, lambda d: find(d, "#threshold-value").text == f"{steps / 100:.2f}")


def hover(driver, canvas, x, y):
    """Point at a pixel of a picture of 32 x 24; what is said of it."""
    from selenium.webdriver import ActionChains

    tooltip = find(driver, "#tooltip")
    driver.execute_script("arguments[0].hidden = true", tooltip)  # what it said before is not the answer
    size = canvas.size
    scale = min(size["width"] / 32, size["height"] / 24)
    ActionChains(driver).move_to_element_with_offset(
        canvas, round((x + 0.5 - 16) * scale), round((y + 0.5 - 12) * scale)
    ).perform()
    until(driver, lambda _: tooltip.is_displayed() and tooltip.text)
    return " ".join(tooltip.text.split())


def test_nothing_is_loaded_and_no_error_is_logged(opened):
    assert opened.execute_script("return performance.getEntriesByType('resource').map((each) => each.name)") == []
    assert opened.get_log("browser") == []


def test_labels_are_drawn_in_the_colours_of_the_words(opened):
    show(opened, "labels")
    canvas = canvas_of(opened, "a.png")
    assert opened.execute_script(PIXEL, canvas, 3, 3) == LAND
    assert opened.execute_script(PIXEL, canvas, 28, 3) in HATCHES


def test_the_threshold_shows_what_would_be_ignored(opened):
    show(opened, "labels")
    canvas = canvas_of(opened, "a.png")
    before = opened.execute_script(PIXEL, canvas, 3, 3)
    move_threshold(opened, 80)  # land has exactly 0.80: it stays
    kept = opened.execute_script(PIXEL, canvas, 3, 3)
    move_threshold(opened, 81)
    until(opened, lambda d: d.execute_script(PIXEL, canvas, 3, 3) in HATCHES)
    assert (before, kept) == (LAND, LAND)
    # Of five pictures: two are all ignored by then (c and gone), a too; d has 0.9, the last one 1.
    assert "60.0% of the 5 random pictures would be ignored; now it is 30.0%" in find(opened, "#threshold-note").text
    land = find(opened, "[data-class='0/0'] .lost").text
    assert land == "33.3%"  # half of a.png by the whole of d.png besides


def test_the_threshold_is_said_of_as_many_pictures_as_are_shown(browser, tmp_path):
    write_report(write_pictures(tmp_path), str(tmp_path / "r.html"), n_pictures=6)  # a sixth for each sheet
    browser.get(f"file://{tmp_path}/r.html")
    said = until(browser, lambda d: find(d, "#threshold-note").text)
    assert "% of the one random picture is ignored;" in said


def test_hover_says_class_and_confidence(opened):
    canvas = canvas_of(opened, "a.png")
    assert hover(opened, canvas, 3, 3) == "land 0.80"
    assert hover(opened, canvas, 28, 3) == "water <i> 0.20 ignored"
    move_threshold(opened, 90)
    assert hover(opened, canvas, 3, 3) == "land 0.80 would be ignored"
    assert hover(opened, canvas_of(opened, "c.png"), 3, 3) == "fog 0.50 distractor, ignored"


def test_opacity_blends_picture_and_labels(opened):
    from selenium.webdriver import Keys

    canvas = canvas_of(opened, "a.png")
    mixed = opened.execute_script(PIXEL, canvas, 3, 3)
    find(opened, "#opacity").send_keys(Keys.END)
    until(opened, lambda d: d.execute_script(PIXEL, canvas, 3, 3) == LAND)
    assert mixed == pytest.approx([0.55 * c + 0.45 * 128 for c in LAND], abs=3)


def test_a_sheet_is_shown_by_its_tab(opened):
    find(opened, "#tab-ignored").click()
    wait(opened, "#sheet canvas")
    names = [each.text for each in opened.find_elements("css selector", "#sheet .name")]
    assert names == ["c.png", "a.png"]


def test_a_picture_in_large_has_its_legend(opened):
    canvas_of(opened, "a.png").click()
    wait(opened, "#viewer canvas")
    assert find(opened, "#viewer-title").text == "a.png"
    assert len(opened.find_elements("css selector", "#viewer canvas")) == 3
    assert find(opened, "#viewer-legend").text.split("\n") == ["land", "50.0%, 0.80"]


def test_a_picture_in_large_says_what_the_threshold_ignores_of_it(opened):
    move_threshold(opened, 81)
    canvas_of(opened, "a.png").click()
    wait(opened, "#viewer canvas")
    about = "32 × 24 pixels, mean confidence 0.800, 100.0% ignored"
    until(opened, lambda d: find(d, "#viewer-about").text.startswith(about))
    assert find(opened, "#viewer-note").text.endswith("without the threshold set here:")


def test_colours_that_are_no_class_have_a_key(opened):
    def keys():
        shown = [each for each in opened.find_elements("css selector", ".key") if each.is_displayed()]
        return [" ".join(each.text.split()) for each in shown]

    assert keys() == ["ignored"]
    show(opened, "confidence")
    assert keys() == ["0, unsure 1, sure"]
    assert "rgb(253, 231, 37)" in find(opened, ".ramp").get_attribute("style")
    show(opened, "picture")
    assert keys() == []


def test_the_spread_of_a_class_lies_on_its_line(opened):
    cells = opened.execute_script("""
        const box = (each) => each.getBoundingClientRect();
        return [...document.querySelectorAll(".classes td.spread")].map((cell) => {
          const [line, stroke] = [cell.querySelector("div"), cell.querySelector("b")];
          const middle = stroke && (box(stroke).left + box(stroke).right) / 2;
          const at = stroke && 100 * (middle - box(line).left) / box(line).width - parseFloat(stroke.style.left);
          return [box(line).right + 10 < box(cell).right, stroke === null, Math.abs(at ?? 0) < 1];
        });""")
    assert cells == [[True, False, True]] * 3 + [[True, True, True]]  # the last has no pixels, and no stroke


def test_a_phone_shows_what_matters_without_scrolling_sideways(opened):
    """Names, shares, pictures and confidence of the classes; the rest of the table scrolls."""
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        width, seen, tabs, below = opened.execute_script("""
            const row = document.querySelector(".tabs");
            const right = (each) => each.getBoundingClientRect().right;
            return [document.documentElement.scrollWidth, right(document.querySelector(".classes th:nth-child(4)")),
                    [...document.querySelectorAll(".tabs button")].map((each) => each.offsetTop),
                    [row.scrollHeight - row.clientHeight, getComputedStyle(row).overflowY]];""")
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert (width, seen <= 390, len(set(tabs))) == (390, True, 1)
    assert below == [0, "hidden"]  # or a scroll bar stands beside the tabs


def test_a_class_has_a_page_of_its_own(opened, page):
    opened.get(f"{page}#class/0/7")
    wait(opened, "#class-sheet canvas")
    assert find(opened, "#class-name").text == "water <i>"
    assert find(opened, "#class-about").text == "id 7 · kept from confidence 0.4"
    assert [each.text for each in opened.find_elements("css selector", "#class-sheet .name")] == [NASTY]
    assert not find(opened, "#overview").is_displayed()
    find(opened, ".crumbs a").click()
    until(opened, lambda d: find(d, "#overview").is_displayed())


def test_on_paper_there_are_the_pictures_too_that_were_not_in_sight(browser, page):
    low = {"width": 1360, "height": 200, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", low)
    try:
        browser.get("about:blank")
        browser.get(page)
        until(browser, lambda d: "random pictures" in find(d, "#threshold-note").text)  # by then they are loaded
        drawn = DRAWN % "#sheet canvas"
        before = browser.execute_script(drawn)
        browser.execute_cdp_cmd("Page.printToPDF", {})
        assert (before, browser.execute_script(drawn)) == (False, True)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_page_of_a_class_that_no_picture_has_says_so(opened, page):
    opened.get(f"{page}#class/0/11")
    until(opened, lambda d: find(d, "#class-name").text == "moon")
    assert find(opened, "#class-pictures-title").text == "No picture has it"
    assert not find(opened, "#toolbar").is_displayed()
    find(opened, ".crumbs a").click()
    until(opened, lambda d: find(d, "#toolbar").is_displayed())


def test_the_table_of_classes_is_sorted_and_searched(opened):
    rows = "#classes [data-class] a"
    find(opened, "th[data-sort=text] button").click()
    assert [each.text for each in opened.find_elements("css selector", rows)] == ["land", "moon", "sky", "water <i>"]
    find(opened, "#find-class").send_keys("WAT")
    assert [each.text for each in opened.find_elements("css selector", rows) if each.text] == ["water <i>"]
    assert not find(opened, "#no-class").is_displayed()
    find(opened, "#find-class").send_keys("Z")
    assert find(opened, "#no-class").text == "No class has this in its name."
