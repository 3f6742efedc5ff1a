"""What a comparison says on a terminal."""

from pipeline.comparison import Comparison, Differing
from pipeline.comparison.counts import ClassAgreement
from schemas.errors import one_line
from schemas.quantities import share_text

_SHOWN = 10  # classes and pictures
_SMALLEST_SAID = 0.005  # of the pixels of a class: less would be rounded to nothing

_COUNTS = (
    ("n_only_first", "only in the first"),
    ("n_only_second", "only in the second"),
    ("n_failed_first", "failed in the first alone"),
    ("n_failed_second", "failed in the second alone"),
    ("n_failed_both", "failed in both"),
    ("n_other_size", "of another size in each"),
)


def comparison_lines(found: Comparison) -> list[str]:
    """The agreement, the classes that agree least and what they become, and the pictures that differ most."""
    classes = found.classes
    labelled = found.labelled_agreement
    lines = [
        f"{found.n_compared:,} pictures compared: {found.first} and {found.second}",
        f"  pixel agreement  {found.pixel_agreement:.3f}  of {found.n_pixels:,} pixels",
        f"  where labelled   {'-' if labelled is None else f'{labelled:.3f}'}  of the pixels that neither ignores",
        f"  ignored          {found.ignored(0):.1%} in the first, {found.ignored(1):.1%} in the second",
    ]
    if classes:
        mean = sum(each.iou for each in classes) / len(classes)
        lines.insert(3, f"  mean IoU         {mean:.3f}  of {len(classes):,} class names that occur in either")
    said = [f"{getattr(found, name):,} {text}" for name, text in _COUNTS if getattr(found, name)]
    if said:
        lines.append(f"  left out         {', '.join(said)}")
    if found.n_corrected_first or found.n_corrected_second:
        counts = f"{found.n_corrected_first:,} in the first, {found.n_corrected_second:,} in the second"
        lines.append(f"  corrected        {counts}, by people")
    lines += _class_lines([each for each in classes if each.iou < 1][:_SHOWN], found.n_pixels)
    if differ := [each for each in found.worst[:_SHOWN] if each.agreement < 1]:
        lines += ["", "Pictures that differ most, by agreement:"]
        lines += [f"  {each.agreement:.3f}  {each.image_id}{_corrected(each)}" for each in differ]
    elif found.pixel_agreement == 1:
        lines.append("No pixel differs.")
    return list(map(one_line, lines))


def _corrected(picture: Differing) -> str:
    return f", corrected in the {' and the '.join(picture.corrected)}" if picture.corrected else ""


def _class_lines(classes: list[ClassAgreement], n_pixels: int) -> list[str]:
    if not classes:
        return []
    width = max(len("CLASS"), *(len(each.name) for each in classes))
    lines = ["", f"  {'CLASS'.ljust(width)}    IOU  FIRST  SECOND  IN THE SECOND ALSO"]
    for each in classes:
        first, second = (share_text(n / n_pixels) for n in each.pixels)
        lines.append(f"  {each.name.ljust(width)}  {each.iou:.3f}  {first:>5}  {second:>6}  {_becomes(each)}")
    return lines


def _becomes(found: ClassAgreement) -> str:
    """What else the pixels of the first are in the second, where that is a hundredth of them or more."""
    if not found.pixels[0]:
        return "not in the first"
    shares = {name or "ignored": n / found.pixels[0] for name, n in found.becomes.items()}
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share >= _SMALLEST_SAID) or "-"
