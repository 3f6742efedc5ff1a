"""`escnet vocabulary`: the words in the box, what a file comes to, what is odd in it, what two differ in, imports."""

from typing import TYPE_CHECKING

import click

from jobs.options import storage
from schemas.errors import EXIT_DONE, EXIT_OTHER, EXIT_USAGE, printable
from schemas.quantities import counted

if TYPE_CHECKING:
    from pipeline.vocabulary.touched import Touched
    from schemas.vocabulary import Vocabulary
    from schemas.vocabulary_diff import Change


@click.group()
def vocabulary() -> None:
    """Look at vocabularies: the bundled ones and your own.

    \b
    escnet vocabulary list
    escnet vocabulary show pascal-voc-20
    escnet vocabulary show words.yaml --format yaml
    escnet vocabulary lint words.yaml
    escnet vocabulary diff words.yaml new-words.yaml
    escnet vocabulary import labels.xml --output words.yaml
    """


@vocabulary.command("list")
def list_() -> None:
    """List the bundled vocabularies."""
    from pipeline.vocabularies import bundled_names, load_vocabulary

    rows = [("NAME", "CLASSES", "PROMPTS", "DESCRIPTION")]
    for found in map(load_vocabulary, bundled_names()):
        n_prompts = sum(len(entry.prompts) for entry in found.entries)
        rows.append((found.name, str(len(found.classes)), str(n_prompts), found.description))
    _echo_table(rows)


@vocabulary.command(short_help="Show the classes and distractors of a vocabulary.")
@click.argument("name_or_file")
@click.option(
    "--format", "form", type=click.Choice(["table", "yaml"]), default="table", show_default=True,
    help="A table to read, or a vocabulary file to begin your own from.",
)  # fmt: skip
@storage
def show(name_or_file: str, form: str, endpoint_url: str | None, profile: str | None) -> None:
    """Show the classes and distractors of a bundled vocabulary or of a file, as they will be used.

    \b
    escnet vocabulary show ade20k-150
    escnet vocabulary show names.txt
    escnet vocabulary show s3://bucket/words.yaml
    escnet vocabulary show coco-stuff-171 --format yaml > words.yaml
    """
    from pipeline.storage import StorageOptions
    from pipeline.vocabularies import load_vocabulary
    from schemas.vocabulary_files import vocabulary_yaml

    found = load_vocabulary(name_or_file, StorageOptions(endpoint_url, profile))
    if form == "yaml":
        click.echo(vocabulary_yaml(found), nl=False)
        return
    click.echo(f"{found.name}: {counted(len(found.classes), 'class')}, ", nl=False)
    click.echo(f"{counted(len(found.distractors), 'distractor')}, ignore is {found.ignore_id}")
    click.echo(printable(f"templates: {' | '.join(found.templates)}"))
    _echo_table(_class_rows(found))
    if found.distractors:
        click.echo()
        _echo_table(_distractor_rows(found))


@vocabulary.command(short_help="Find what is odd in a vocabulary.")
@click.argument("name_or_file")
@click.option(
    "--model", metavar="M", help="Preset or checkpoint that is to use it: also its tokens, words and embeddings."
)
@click.option(
    "--json", "json_file", metavar="FILE", help="Write the findings there too; `-` prints them, and nothing else."
)
@storage
def lint(
    name_or_file: str, model: str | None, json_file: str | None, endpoint_url: str | None, profile: str | None
) -> int:
    """Find what is odd in a vocabulary: one line a finding, with its place and what to do.

    \b
    escnet vocabulary lint words.yaml
    escnet vocabulary lint words.yaml --model my.safetensors --json findings.json

    Exit codes: 0 nothing or notes alone, 1 warnings, 2 errors, which are what no job can use.
    """
    from pipeline.json_files import json_text, refuse_taken, write_json
    from pipeline.storage import StorageOptions
    from pipeline.vocabulary.lint import lint as find

    options = StorageOptions(endpoint_url, profile)
    if json_file not in (None, "-"):
        refuse_taken(json_file, options)
    file_name, findings = find(name_or_file, model, options)
    data = {"file": file_name, "findings": [each.as_json() for each in findings]}
    if json_file == "-":
        click.echo(json_text(data), nl=False)
    else:
        for each in findings:
            click.echo(printable(each.text(file_name)))
        click.echo(f"{file_name}: {counted(len(findings), 'finding')}")
        if json_file is not None:
            write_json(data, json_file, options, replace=False)
    severities = {each.severity for each in findings}
    return EXIT_USAGE if "error" in severities else EXIT_OTHER if "warning" in severities else EXIT_DONE


@vocabulary.command(short_help="Say what a change of vocabulary does to labels.")
@click.argument("old")
@click.argument("new")
@click.option(
    "--output", metavar="OUTPUT", help="Labels made with OLD: how many shards and pictures the change touches."
)
@click.option(
    "--json", "json_file", metavar="FILE", help="Write the changes there too; `-` prints them, and nothing else."
)
@storage
def diff(
    old: str, new: str, output: str | None, json_file: str | None, endpoint_url: str | None, profile: str | None
) -> None:
    """What becomes of labels when vocabulary OLD is replaced by NEW, and whether that needs the model.

    \b
    escnet vocabulary diff words.yaml new-words.yaml
    escnet vocabulary diff words.yaml new-words.yaml --output labels/
    """
    from dataclasses import asdict

    from pipeline.json_files import json_text, refuse_taken, write_json
    from pipeline.storage import StorageOptions
    from pipeline.vocabularies import load_vocabulary
    from pipeline.vocabulary.touched import touched
    from schemas.vocabulary_diff import compare

    options = StorageOptions(endpoint_url, profile)
    if json_file not in (None, "-"):
        refuse_taken(json_file, options)
    was, now = load_vocabulary(old, options), load_vocabulary(new, options)
    changes = compare(was, now)
    needs_model = was.wording != now.wording
    ids = {each.class_id for each in changes if each.class_id is not None and each.changes_labels}
    found = None if output is None else touched(output, was, ids, options)
    data = {"changes": [asdict(each) for each in changes], "needs_model": needs_model}
    data |= {} if found is None else {"output": found.as_json()}
    if json_file == "-":
        click.echo(json_text(data), nl=False)
        return
    for line in _diff_lines(changes, needs_model, found):
        click.echo(printable(line))
    if json_file is not None:
        write_json(data, json_file, options, replace=False)


def _diff_lines(changes: "list[Change]", needs_model: bool, found: "Touched | None") -> list[str]:
    if not changes:
        return ["The two are the same, but perhaps for the order of their classes."]
    lines = [f"{each.kind:<12} {each.what}{'  (needs the model)' if each.needs_model else ''}" for each in changes]
    if needs_model:
        verdict = "Other words compete for pixels: label again, `escnet annotate ... --update OLD --output NEW`."
    elif any(each.changes_labels for each in changes):
        verdict = "The same words compete for pixels: labels can be decided again without the model, `escnet relabel`."
    else:
        verdict = "No pixel changes: labels stay as they are."
    lines += ["", verdict]
    if found is not None:
        lines.append(_touched_line(found, needs_model, any(each.changes_labels for each in changes)))
    return lines


def _touched_line(found: "Touched", needs_model: bool, changes_labels: bool) -> str:
    is_used = "" if found.is_as_used else " (not quite the OLD given here)"
    labelled = f"{counted(found.n_shards, 'shard')}, {counted(found.n_pictures, 'picture')} labelled with"
    verb = "holds" if found.n_shards_with == 1 else "hold"
    holding = f"{found.n_shards_with} of them {verb} pixels of a class that changes"
    if needs_model:
        fate = f"all of them are labelled again, since other words can win pixels anywhere; {holding}"
    elif changes_labels:
        fate = f"all of them are decided again; {holding}"
    else:
        fate = "all of them stay"
    return f"{found.output}: {labelled} {found.vocabulary}{is_used}; {fate}."


@vocabulary.command("import", short_help="Make a vocabulary from the classes of another tool.")
@click.argument("file")
@click.option("--output", required=True, metavar="V.yaml", help="Vocabulary file to write.")
@click.option(
    "--format", "form", type=click.Choice(["coco", "csv", "text", "label-studio", "cvat", "vocabulary"]),
    help="What FILE is. [default: recognised by what it holds]",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace --output if it is there.")
@storage
def import_(
    file: str, output: str, form: str | None, overwrite: bool, endpoint_url: str | None, profile: str | None
) -> None:
    """Make a vocabulary file from the classes of another tool, with every id written down.

    \b
    COCO annotations or categories:   escnet vocabulary import instances.json --output words.yaml
    A table with a column `name`:     escnet vocabulary import classes.csv --output words.yaml
    Label Studio, CVAT:               escnet vocabulary import config.xml --output words.yaml
    """
    from pipeline.storage import StorageOptions
    from pipeline.vocabularies import read_vocabulary_text, write_vocabulary
    from pipeline.vocabulary.foreign import import_vocabulary

    options = StorageOptions(endpoint_url, profile)
    text, file_name = read_vocabulary_text(file, options)
    found, recognised = import_vocabulary(text, file_name, form)
    write_vocabulary(found, output, options, replace=overwrite)
    click.echo(f"Wrote {output}: {counted(len(found.classes), 'class')} from {file_name} ({recognised})")


def _class_rows(found: "Vocabulary") -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("ID", "NAME", "CONFIDENCE", "MARGIN", "PROMPTS")]
    for each in sorted(found.classes, key=lambda each: each.id):
        limits = (f">= {limit:g}" if limit else "-" for limit in (each.min_confidence, each.min_margin))
        rows.append((str(each.id), each.name, *limits, ", ".join(each.prompts) or "none of its own"))
    return rows


def _distractor_rows(found: "Vocabulary") -> list[tuple[str, ...]]:
    names = {each.id: f"{each.id} {each.name}" for each in found.classes}
    rows: list[tuple[str, ...]] = [("DISTRACTOR", "BECOMES")]
    for each in found.distractors:
        rows.append((", ".join(each.prompts), "ignore" if each.becomes is None else names[each.becomes]))
    return rows


def _echo_table(rows: list[tuple[str, ...]]) -> None:
    """Columns as wide as their widest cell, the last one as it is."""
    rows = [tuple(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    for row in rows:
        click.echo("  ".join([cell.ljust(width) for cell, width in zip(row, widths, strict=False)] + [row[-1]]))
