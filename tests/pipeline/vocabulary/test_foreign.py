"""Vocabularies of other tools: each form is recognised by what it holds; what is wrong is one line."""

import pytest

from pipeline.vocabulary.foreign import import_vocabulary
from schemas.errors import VocabularyError

COCO = '{"images": [], "categories": [{"id": 3, "name": "car", "supercategory": "vehicle"}]}'
CVAT = """[{"name": "car", "id": 77, "color": "#ff0000", "type": "any", "attributes": []},
{"name": "road", "attributes": []}]"""
CVAT_XML = """<annotations><meta><task><labels>
<label><name>car</name><color>#ff0000</color><type>any</type></label><label><name>road</name></label>
</labels></task></meta></annotations>"""
LABEL_STUDIO = """<View><Image name="image" value="$image"/>
<BrushLabels name="tag" toName="image"><Label value="car" background="red"/>
<Label value="road" background="rgb(1, 2, 3)"/></BrushLabels>
<RectangleLabels name="box" toName="image"><Label value="car"/></RectangleLabels></View>"""


def classes(text, file_name="any", form=None):
    found, recognised = import_vocabulary(text, file_name, form)
    return recognised, [(each.id, each.name, each.prompts, each.color) for each in found.classes]


RED, FIRST, SECOND = (255, 0, 0), (128, 0, 0), (0, 128, 0)


@pytest.mark.parametrize(
    ("text", "form", "expected"),
    [
        (COCO, "coco", [(3, "car", ("car",), None)]),
        (CVAT, "cvat", [(0, "car", ("car",), RED), (1, "road", ("road",), SECOND)]),
        (CVAT_XML, "cvat", [(0, "car", ("car",), RED), (1, "road", ("road",), SECOND)]),
        (LABEL_STUDIO, "label-studio", [(0, "car", ("car",), RED), (1, "road", ("road",), (1, 2, 3))]),
        ("id,name,prompts,color,junk\n4,car,car;taxi,#ff0000,x\n9,road,,,y\n", "csv",
         [(4, "car", ("car", "taxi"), RED), (9, "road", ("road",), None)]),
        ("Class Name;Idx\n\ncar, big;2\n", "csv", [(2, "car, big", ("car, big",), None)]),
        ("car\nroad, street\n", "text", [(0, "car", ("car",), FIRST), (1, "road, street", ("road, street",), SECOND)]),
        ('["car"]', "vocabulary", [(0, "car", ("car",), FIRST)]),
        ("classes: [car]", "vocabulary", [(0, "car", ("car",), FIRST)]),
    ],
)  # fmt: skip
def test_a_form_is_recognised_and_read(text, form, expected):
    recognised, found = classes(text)
    assert recognised == form
    assert [each[:3] for each in found] == [each[:3] for each in expected]
    assert all(colour in (None, each[3]) for each, (*_, colour) in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", None, "is empty"),
        ("<View><Label/></View>", 1, "a <Label> has no value"),
        ('<View>\n<Label value="$options"/></View>', 2, "comes from the tasks"),
        ("<View>\n<Label value='a'></View>", 2, "not XML: mismatched tag"),
        ("<View></View>", None, "holds no classes"),
        ("<labels></labels>", None, "holds no classes"),
        ('<View>\n<Label value="a" background="reddish"/></View>', 2, "found 'reddish'"),
        ('<!DOCTYPE v [\n<!ENTITY a "aa">\n]><View><Label value="&a;"/></View>', 1, "document type"),
        ('<!DOCTYPE v SYSTEM "file:///etc/passwd"><View/>', 1, "document type"),
        ("<a>" * 100, 1, "nested more than 64 levels"),
        ("id,name\n1,car\nx,road\n", 3, "id: found 'x'; expected a number"),
        ("id,name\n1,car\n1,road\n", 3, "id 1 is given to both"),
        ("id,name\n1,car,big\n", 2, "has 3 cells, the header 2"),
        ("id,name\n", None, "holds no classes"),
        ('[{"attributes": []}]', None, "label 1 has no name"),
        ('{"categories": [\n{"id": 1}]}', 2, "name: missing"),
    ],
)
def test_what_is_wrong_is_one_line(text, line, says):
    with pytest.raises(VocabularyError) as caught:
        import_vocabulary(text, "file")
    message = str(caught.value)
    assert message.startswith(f"file, line {line}: " if line else "file: ")
    assert says in message


def test_a_table_without_names_is_refused_where_it_must_be_one():
    with pytest.raises(VocabularyError, match="found the columns 'a', 'b'; expected a header with `name`"):
        import_vocabulary("a,b\n1,2\n", "table.csv")
    with pytest.raises(VocabularyError, match="not XML"):
        import_vocabulary("name\ncar\n", "any", "label-studio")
