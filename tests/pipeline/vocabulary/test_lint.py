"""What `escnet vocabulary lint` finds, with the line it stands on."""

import pytest

from pipeline.storage import StorageOptions
from pipeline.vocabularies import bundled_names
from pipeline.vocabulary.lint import lint

STORAGE = StorageOptions()


def findings(tmp_path, text, model=None, name="words.yaml"):
    (tmp_path / name).write_text(text)
    return [(each.severity, each.line, each.problem) for each in lint(str(tmp_path / name), model, STORAGE)[1]]


LONG = "a very " * 80 + "long thing"


@pytest.mark.parametrize(
    ("text", "severity", "line", "says"),
    [
        ("classes:\n- {id: 0, name: a b}\n- {id: 1, name: 'c  d'}\n", "note", 3, "white space"),
        ("classes:\n- {id: 0, name: road}\n- {id: 1, name: traffic_light}\n", "warning", 3, "no word of a language"),
        ("classes:\n- {id: 0, name: trafficLight}\n", "warning", 2, "no word of a language"),
        ("classes:\n- {id: 0, name: ROAD}\n", "note", 2, "all capitals"),
        ("classes:\n- road\n", "note", 1, "ids are positions"),
        ("classes:\n- {id: 0, name: road}\n- {id: 700, name: car}\n", "note", 3, "16 bit"),
        ("classes:\n- {id: 0, name: road}\n- {id: 1, name: crane}\n", "note", 3, "several meanings"),
        ("classes:\n- {id: 0, name: cars}\n- {id: 1, name: car}\n", "warning", 3, "nearly 'cars' of class 0 'cars'"),
        ("classes:\n- {id: 0, name: a, prompts: [car, bus]}\n- {id: 1, name: b, prompts: [bus, van]}\n", "warning", 3,
         "'bus' is nearly 'bus' of class 0"),
        ("classes:\n- {id: 0, name: car}\ndistractors:\n- the car\n- cars\n", "warning", 5, "nearly 'car'"),
        ("classes:\n- {id: 0, name: car, prompts: [van]}\n- {id: 1, name: Car, prompts: [bus]}\n", "warning", 3,
         "differs from 'car' in capitals"),
        ("classes:\n- {id: 0, name: car}\n- {id: 1, name: van, color: '#800000'}\n", "note", 3, "colour of class 0"),
        ("classes:\n- {id: 0, name: car, parent: any}\n- {id: 1, name: any, prompts: []}\n", "note", 3, "no prompts"),
        (f"classes:\n- {{id: 0, name: road}}\n- {{id: 1, name: {LONG}}}\n", "error", 3, "more than 77"),
        ("classes:\n- {id: 0, name: car}\n- {id: 0, name: van}\n", "error", 3, "id 0 is given to both"),
        ("classes:\n- {id: 0, name: ' '}\n", "error", 2, "found blank text"),
    ],
)  # fmt: skip
def test_a_finding_has_its_line(tmp_path, text, severity, line, says):
    found = findings(tmp_path, text)
    assert [each[:2] for each in found if says in each[2]] == [(severity, line)], found


def test_ordinary_words_give_no_finding(tmp_path):
    assert (
        findings(tmp_path, "classes:\n- {id: 0, name: road}\n- {id: 1, name: traffic light, prompts: [signal]}\n") == []
    )


def test_a_list_of_names_has_lines_too(tmp_path):
    found = findings(tmp_path, "road\n\ntraffic_light\n", name="words.txt")
    assert ("warning", 3) in [each[:2] for each in found]


def test_a_model_adds_words_it_never_learnt_and_classes_it_cannot_tell_apart(tmp_path):
    text = (
        "classes:\n- {id: 0, name: red circle}\n- {id: 1, name: red unicorn}\n"
        "- {id: 2, name: disc, prompts: [Red circle, RED circle, red Circle, red solid circle]}\n"
    )
    found = findings(tmp_path, text, "escnet-nano")
    assert ("warning", 3, "escnet-nano was never trained with 'unicorn'") in found
    assert [line for _, line, problem in found if "means nearly the same to the model as class 0" in problem] == [4]
    longest = "classes:\n- {id: 0, name: " + "red " * 40 + "circle}\n"
    assert [each[:2] for each in findings(tmp_path, longest, "escnet-nano") if "more than 32" in each[2]] == [
        ("error", 2)
    ]


@pytest.mark.parametrize("name", bundled_names())
def test_bundled_vocabularies_have_no_error(name):
    assert not [each for each in lint(name, None, STORAGE)[1] if each.severity == "error"]
