"""`escnet vocabulary`: the words in the box, and what a vocabulary file comes to."""

from typing import TYPE_CHECKING

import click

from schemas.errors import printable

if TYPE_CHECKING:
    from schemas.vocabulary import Vocabulary


@click.group()
def vocabulary() -> None:
    """Look at vocabularies: the bundled ones and your own.

    \b
    escnet vocabulary list
    escnet vocabulary show pascal-voc-20
    escnet vocabulary show words.yaml --format yaml
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


@vocabulary.command()
@click.argument("name_or_file")
@click.option(
    "--format", "form", type=click.Choice(["table", "yaml"]), default="table", show_default=True,
    help="A table to read, or a vocabulary file to begin your own from.",
)  # fmt: skip
def show(name_or_file: str, form: str) -> None:
    """Show the classes and distractors of a bundled vocabulary or of a file, as they will be used.

    \b
    escnet vocabulary show ade20k-150
    escnet vocabulary show names.txt
    escnet vocabulary show s3://bucket/words.yaml
    escnet vocabulary show coco-stuff-171 --format yaml > words.yaml
    """
    from pipeline.vocabularies import load_vocabulary
    from schemas.vocabulary_files import vocabulary_yaml

    found = load_vocabulary(name_or_file)
    if form == "yaml":
        click.echo(vocabulary_yaml(found), nl=False)
        return
    click.echo(f"{found.name}: {_counted(len(found.classes), 'class')}, ", nl=False)
    click.echo(f"{_counted(len(found.distractors), 'distractor')}, ignore is {found.ignore_id}")
    click.echo(printable(f"templates: {' | '.join(found.templates)}"))
    _echo_table(_class_rows(found))
    if found.distractors:
        click.echo()
        _echo_table(_distractor_rows(found))


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


def _counted(n: int, word: str) -> str:
    plural = f"{word}es" if word.endswith("s") else f"{word}s"
    return f"{n} {word if n == 1 else plural}"


def _echo_table(rows: list[tuple[str, ...]]) -> None:
    """Columns as wide as their widest cell, the last one as it is."""
    rows = [tuple(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    for row in rows:
        click.echo("  ".join([cell.ljust(width) for cell, width in zip(row, widths, strict=False)] + [row[-1]]))
