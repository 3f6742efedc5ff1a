"""The page as a file: what is in it, what is never in it, and what is refused."""

import base64
import json
import re
import zlib

import numpy as np
import pytest

from pipeline.evaluation import evaluate
from pipeline.report import write_report
from schemas.errors import InputError, OutputError
from schemas.vocabulary import Vocabulary
from tests.pipeline.labelled_output import Answer, Failure, save_mask, write_output
from tests.pipeline.report.output import HALVES, NASTY, write_pictures


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("report"))


def page_of(output, path, **options):
    """The text of a report, and the data in it."""
    write_report(output, str(path), **options)
    text = path.read_text()
    return text, json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


def by_id(data):
    return {picture["id"]: picture for picture in data["pictures"]}


def plane(text, shape):
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(shape)


def test_the_summary_counts_what_is_shown_and_what_is_gone(output, tmp_path):
    done = write_report(output, str(tmp_path / "r.html"))
    assert (done.n_labelled, done.n_failed, done.n_pictures, done.n_missing, done.n_unread) == (5, 2, 5, 1, 0)
    assert done.n_bytes == (tmp_path / "r.html").stat().st_size


def test_a_picture_has_its_labels_pixel_for_pixel(output, tmp_path):
    _, data = page_of(output, tmp_path / "r.html")
    picture = by_id(data)["a.png"]
    values = plane(picture["labels"], (24, 32))
    classes = data["vocabularies"][0]["classes"]
    shown = np.array([classes[code]["id"] for code in picture["codes"]])[values >> 1]
    assert np.array_equal(shown, HALVES)  # the winner, also where it is ignored
    assert np.array_equal(values & 1, HALVES == 7)
    assert np.array_equal(plane(picture["confidence"], (6, 8)), np.repeat([[204, 51]], 4, axis=1).repeat(6, axis=0))
    assert picture["image"].startswith("data:image/jpeg;base64,")


def test_a_distractor_that_won_is_named(output, tmp_path):
    _, data = page_of(output, tmp_path / "r.html")
    assert (by_id(data)["c.png"]["codes"], data["vocabularies"][0]["distractors"]) == ([-1], ["fog"])


def test_an_ignored_pixel_is_of_the_class_that_it_would_be_rolled_up_to(tmp_path):
    child = {"id": 5, "name": "oak", "parent": "tree", "min_confidence": 0.9}
    words = Vocabulary(name="words", classes=[{"id": 8, "name": "tree"}, child], level="parent")
    write_output(str(tmp_path / "out"), {"words": {"a": Answer(np.full((8, 8), 5, np.int32), 100)}}, [words])
    _, data = page_of(str(tmp_path / "out"), tmp_path / "r.html")
    assert data["pictures"][0]["codes"] == [0]


def test_what_took_the_ignored_pixels_is_told_from_the_evidence_of_the_random_pictures(output, tmp_path):
    text, _ = page_of(output, tmp_path / "r.html")
    taken = "in the random pictures shown here distractors took 66.7% of them"
    assert f"30.0% of all pixels are ignored: {taken}; of the others no class reached its threshold." in text
    text, _ = page_of(output, tmp_path / "none.html", n_pictures=0)
    assert "30.0% of all pixels are ignored: distractors took them, or no class reached its threshold." in text


@pytest.mark.parametrize(
    ("threshold", "distractor", "why"),
    [
        (0.9, {"prompts": ["fog"], "becomes": 0}, "no class reached its threshold"),
        (0.0, "fog", "distractors took them"),
    ],
)
def test_where_one_thing_alone_can_ignore_a_pixel_that_is_what_took_it(threshold, distractor, why, tmp_path):
    classes = [{"name": "land", "min_confidence": threshold}, "water"]
    words = Vocabulary(name="words", classes=classes, distractors=[distractor])
    write_output(str(tmp_path / "out"), {"words": {"a": Answer(np.full((8, 8), -1, np.int32))}}, [words])
    text, _ = page_of(str(tmp_path / "out"), tmp_path / "r.html")
    assert f"100.0% of all pixels are ignored: {why}." in text


def test_a_picture_that_is_gone_is_shown_by_its_labels(output, tmp_path):
    text, data = page_of(output, tmp_path / "r.html")
    gone = by_id(data)["gone.png"]
    assert gone["image"] is None
    assert gone["note"].endswith("photos/gone.png: no such file")
    assert "1 of the 5 pictures shown could not be fetched again" in text


def test_failures_are_counted_by_kind_with_examples(output, tmp_path):
    text, _ = page_of(output, tmp_path / "r.html")
    assert "2 of 7 pictures failed" in text
    assert "<code>broken.png</code> the end is missing" in text
    assert f"escnet retry {output} --only not_found,truncated" in text


def test_a_run_in_which_all_failed_says_nothing_of_classes(tmp_path):
    words = Vocabulary(name="words", classes=["land", "water"])
    write_output(str(tmp_path / "out"), {"words": {"a": Failure(), "b": Failure()}}, [words])
    text, _ = page_of(str(tmp_path / "out"), tmp_path / "r.html")
    assert "0 of 2 pictures, labelled with the vocabulary words by" in text
    assert "<dt>Ignored</dt><dd>none</dd>" in text
    assert ("2 of 2 pictures failed" in text, "Never found" in text) == (True, False)


def test_several_vocabularies_are_named(tmp_path):
    words = [Vocabulary(name=name, classes=["land"]) for name in ("coast", "city")]
    answers = {each.name: {each.name: Answer(np.zeros((8, 8), np.int32))} for each in words}
    write_output(str(tmp_path / "out"), answers, words)
    text, _ = page_of(str(tmp_path / "out"), tmp_path / "r.html")
    assert '<p class="lead">2 pictures, labelled with the vocabularies coast and city by' in text


def test_names_are_text_wherever_they_stand(output, tmp_path):
    text, data = page_of(output, tmp_path / "r.html")
    assert NASTY in by_id(data)
    assert (NASTY in text, text.count("<b>&amp;"), text.count("<i>")) == (False, 0, 0)
    assert text.count("</script>") == 2
    assert "<" not in text.split('id="data">')[1].split("</script>")[0]  # nor a comment, which would hide that end
    assert "water &lt;i&gt;" in text


def test_sheets_are_ordered_by_what_they_show(output, tmp_path):
    _, data = page_of(output, tmp_path / "r.html")
    names = [picture["id"] for picture in data["pictures"]]
    sheets = {key: [names[k] for k in numbers] for key, numbers in data["sheets"].items()}
    assert sheets["unsure"] == ["gone.png", "a.png", "d.png", NASTY]  # c.png has no labelled pixel
    assert sheets["ignored"] == ["c.png", "a.png"]
    assert sheets["rare"] == [NASTY, "gone.png", "d.png"]  # the largest of water and sky, one picture each, and land
    assert sorted(sheets["random"]) == sorted(names)


def test_the_same_output_gives_the_same_bytes(output, tmp_path):
    assert page_of(output, tmp_path / "1.html") == page_of(output, tmp_path / "2.html")


@pytest.mark.parametrize("n", [0, 1, 3])
def test_pictures_are_as_many_as_asked(output, tmp_path, n):
    text, data = page_of(output, tmp_path / "r.html", n_pictures=n)
    assert len(data["pictures"]) == n
    assert ('id="pictures"' in text) == ("Under 0.00" in text) == (n > 0)  # no threshold to move without pictures


def test_a_rare_class_is_found_by_the_footers_where_the_sample_lacks_it(tmp_path):
    words = Vocabulary(name="words", classes=["land", "water"])
    answers = {f"{k:02}": Answer(np.full((8, 8), int(k == 33), np.int32)) for k in range(40)}
    write_output(str(tmp_path / "out"), {"words": answers}, [words], shard_size=2)
    _, data = page_of(str(tmp_path / "out"), tmp_path / "r.html", n_shards=2, n_pictures=6)
    names = [picture["id"] for picture in data["pictures"]]
    assert names[data["sheets"]["rare"][0]] == "33"
    assert len(data["sheets"]["random"]) == 1
    water = data["vocabularies"][0]["classes"][1]
    assert (water["pictures"], sum(water["histogram"])) == (1, 0)  # counted by footers, and no part of the sample


def test_secrets_in_addresses_stay_out(tmp_path):
    words = Vocabulary(name="words", classes=["land"])
    answers = {"a.jpg?X-Amz-Signature=geheim": Answer(np.zeros((8, 8), np.int32))}
    folder = "http://user:passwort@127.0.0.1:9/b"
    write_output(str(tmp_path / "out"), {"words": answers}, [words], folder=folder)
    text, data = page_of(str(tmp_path / "out"), tmp_path / "r.html")
    picture = data["pictures"][0]
    assert (picture["image"], picture["uri"]) == (None, "http://127.0.0.1:9/b/a.jpg")
    assert "passwort" not in text
    assert "geheim" not in text.replace(picture["id"], "")  # the name itself is the user's


def test_scores_are_shown_and_those_of_other_labels_refused(output, tmp_path):
    for name in ("a.png", "d.png"):
        save_mask(tmp_path / "masks" / name, HALVES.astype(np.uint8))
    scores = evaluate(output, str(tmp_path / "masks"), allow_missing=True).as_json()
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    text, _ = page_of(output, tmp_path / "r.html", scores=str(tmp_path / "scores.json"))
    assert 'aria-label="Share of pixels that are right, by confidence"' in text
    assert f"<dd>{scores['miou']:.3f}</dd>" in text
    others = [
        (scores | {"model": scores["model"] | {"fingerprint": "other"}}, "scores of 'words' by"),
        (scores | {"labels_digest": "other"}, "whose pictures, words or options are not those of"),
    ]
    for found, said in others:
        (tmp_path / "scores.json").write_text(json.dumps(found))
        with pytest.raises(InputError, match=f"{said}.*; run `escnet evaluate` on these"):
            write_report(output, str(tmp_path / "new.html"), scores=str(tmp_path / "scores.json"))


@pytest.mark.parametrize(
    ("text", "said"),
    [("{}", r"no scores \(output: Field required\)"), ("no json", "no scores"), (None, "not found|no such")],
)
def test_files_that_are_no_scores_are_refused(output, tmp_path, text, said):
    if text is not None:
        (tmp_path / "scores.json").write_text(text)
    with pytest.raises(InputError, match=said):
        write_report(output, str(tmp_path / "r.html"), scores=str(tmp_path / "scores.json"))
    assert not (tmp_path / "r.html").exists()


def test_a_report_replaces_nothing_unless_asked(output, tmp_path):
    (tmp_path / "r.html").write_text("mine")
    with pytest.raises(OutputError, match="already there"):
        write_report(output, str(tmp_path / "r.html"))
    assert (tmp_path / "r.html").read_text() == "mine"
    write_report(output, str(tmp_path / "r.html"), replace=True)
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")


def test_an_output_without_labels_is_refused(tmp_path):
    words = Vocabulary(name="words", classes=["land"])
    write_output(str(tmp_path / "out"), {"words": {"a": Answer(np.zeros((4, 4), np.int32))}}, [words], n_done=0)
    with pytest.raises(OutputError, match="none of its 1 shards is labelled yet"):
        write_report(str(tmp_path / "out"), str(tmp_path / "r.html"))
    with pytest.raises(OutputError, match=r"found no job\.json"):
        write_report(str(tmp_path), str(tmp_path / "r.html"))


def test_a_damaged_label_file_is_left_out_and_said(tmp_path):
    words = Vocabulary(name="words", classes=["land"])
    answers = {name: Answer(np.zeros((4, 4), np.int32)) for name in "abcd"}
    write_output(str(tmp_path / "out"), {"words": answers}, [words])
    sorted((tmp_path / "out" / "labels").glob("*.parquet"))[0].write_bytes(b"PAR1")
    text, _ = page_of(str(tmp_path / "out"), tmp_path / "r.html")
    assert "1 label file cannot be read" in text
    assert "2 of 4 pictures are done" in text
