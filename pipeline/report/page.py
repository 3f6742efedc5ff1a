"""The HTML of a report: numbers are in the page as text, pictures as data that its script draws."""

import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from pipeline.output.labelled import LabelledOutput
from pipeline.report.candidates import SHEETS, Chosen
from pipeline.report.class_facts import class_facts
from pipeline.report.findings import figures, findings
from pipeline.report.scores import MeasuredScores
from pipeline.report.survey import Survey
from schemas.manifest import public_uri
from schemas.quantities import counted

_SCRIPTS = ("draw.js", "view.js", "page.js")
_SHEET_NAMES = {
    "random": "Random", "unsure": "Least sure", "rare": "Rarest classes", "ignored": "Most ignored",
}  # fmt: skip


def render_page(
    labels: LabelledOutput,
    found: Survey,
    chosen: Chosen,
    pictures: Sequence[dict[str, Any]],
    measured: MeasuredScores | None,
) -> str:
    """The whole page. Names and messages of other people are text in it, whatever characters they have."""
    vocabularies = _vocabularies(found, measured)
    data = {
        "vocabularies": [{**each, "classes": [fact.as_data() for fact in each["classes"]]} for each in vocabularies],
        "pictures": pictures,
        "sheets": chosen.sheets,
    }
    return _template().render(
        title=public_uri(labels.uri).rstrip("/").rpartition("/")[2] or labels.name,
        output=labels.name,
        lead=_lead(labels, found),
        css=Markup(_text("page.css")),  # ours
        script=Markup("\n".join(_text(name) for name in _SCRIPTS)),
        data=_json_in_html(data),
        figures=figures(labels, found),
        findings=findings(
            labels, found, pictures, [pictures[k] for k in chosen.sheets["random"]], measured, vocabularies
        ),
        pictures=pictures,
        sheets=_sheets(chosen),
        vocabularies=[
            {**each, "classes": sorted(each["classes"], key=lambda fact: (-fact.pixels, fact.id))}
            for each in vocabularies
        ],
        classes_note=_classes_note(found),
        measured=measured,
        failures=_failures(found),
        kinds=",".join(sorted({reason.partition("/")[2] for reason in found.totals.failed})),
        made=_made(labels),
    )


def _vocabularies(found: Survey, measured: MeasuredScores | None) -> list[dict[str, Any]]:
    """What the page says of each, `classes` as `ClassFacts`."""
    return [
        {
            "index": k,
            "name": name,
            "classes": class_facts(words, found.totals.pixels, measured),
            "distractors": [each.prompts[0] for each in words.distractors_by_code],
        }
        for k, (name, words) in enumerate(found.words.items())
    ]


def _sheets(chosen: Chosen) -> list[dict[str, Any]]:
    """Those that have any pictures."""
    return [
        {"key": key, "name": _SHEET_NAMES[key], "n": len(chosen.sheets[key])} for key in SHEETS if chosen.sheets[key]
    ]


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_text("page.html"))


def _text(name: str) -> str:
    return resources.files("pipeline.report").joinpath("page", name).read_text(encoding="utf-8")


def _json_in_html(data: Any) -> Markup:
    """JSON that no parser of HTML takes for the end of its script, or for a comment."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _lead(labels: LabelledOutput, found: Survey) -> str:
    *others, last = found.words
    words = f"vocabularies {', '.join(others)} and {last}" if others else f"vocabulary {last}"
    labelled, planned = found.totals.labelled, labels.job.manifest.n_rows
    of = f"{labelled:,} of " if labelled < planned else ""
    return f"{of}{counted(planned, 'picture')}, labelled with the {words} by {labels.job.model.name}."


def _classes_note(found: Survey) -> str:
    counts = "Pixels and pictures are those of all labels"
    spread = "A tenth of the pixels lie below its spread, a tenth above; the stroke is the median"
    if found.n_sampled < found.totals.rows:
        return f"{counts}; confidence is that of {found.n_sampled:,} pictures, evenly over them. {spread}."
    return f"{counts}, and so is confidence. {spread}."


def _failures(found: Survey) -> list[dict[str, Any]]:
    ordered = sorted(found.totals.failed.items(), key=lambda item: (-item[1], item[0]))
    rows = []
    for reason, n in ordered:
        stage, _, kind = reason.partition("/")
        rows.append({"stage": stage, "kind": kind, "n": n, "examples": found.failures.get(reason, [])})
    return rows


def _made(labels: LabelledOutput) -> list[tuple[str, str]]:
    job = labels.job
    rows = [("Output", labels.name), ("Model", f"{job.model.name}, fingerprint {job.model.fingerprint}")]
    rows += [("Vocabulary", f"{name}, fingerprint {value}") for name, value in job.vocabularies.items()]
    rows.append(("Sources", ", ".join(map(public_uri, job.sources))))
    manifest = job.manifest
    pictures, shards = counted(manifest.n_rows, "picture"), counted(manifest.n_shards, "shard")
    rows.append(("Manifest", f"{pictures} in {shards}, digest {manifest.digest}"))
    if job.update_of is not None:
        rows.append(("Update of", public_uri(job.update_of)))
    options = job.options.model_dump()
    named = [name.replace("_", " ").capitalize().replace("Cpus", "CPUs") for name in options]
    rows += [
        (name, f"{value:,}" if isinstance(value, int) else str(value))
        for name, value in zip(named, options.values(), strict=True)
    ]
    rows.append(("Versions", ", ".join(f"{name} {version}" for name, version in job.versions.items())))
    return rows
