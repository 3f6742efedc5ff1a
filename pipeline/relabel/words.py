"""The vocabularies that an output is relabelled with, and whether its evidence is enough for them."""

from collections.abc import Mapping, Sequence

from pipeline.storage import StorageOptions
from pipeline.vocabularies import at_level, load_vocabulary
from schemas.errors import VocabularyError
from schemas.manifest import public_uri
from schemas.quantities import few
from schemas.spelling import did_you_mean
from schemas.vocabulary import Level, Vocabulary

# By the name that it has in the output: a vocabulary as it was used, and the one that takes its place.
Changes = dict[str, tuple[Vocabulary, Vocabulary]]


def match_vocabularies(
    used: Mapping[str, Vocabulary],
    asked: Sequence[str],
    level: Level | None,
    output: str,
    storage: StorageOptions,
) -> Changes:
    """What takes the place of each vocabulary of an output: of those asked for the one of its name, else itself.

    Where both are one, names may differ.

    Args:
        used: the output's vocabularies.
        asked: names, files or URIs of vocabularies.
        level: what all labels are rolled up to; None leaves that to the vocabularies.

    Raises:
        VocabularyError: one of no name that the output has, or one that needs the model.
    """
    new = _asked_by_name(used, asked, output, storage)
    rolled_up = at_level({name: new.get(name, was) for name, was in used.items()}, level)
    for name, was in used.items():
        _refuse_new_words(was, rolled_up[name], output)
    return {name: (was, rolled_up[name]) for name, was in used.items()}


def _asked_by_name(
    used: Mapping[str, Vocabulary], asked: Sequence[str], output: str, storage: StorageOptions
) -> dict[str, Vocabulary]:
    loaded = [(place, load_vocabulary(place, storage)) for place in asked]
    if len(used) == len(loaded) == 1:
        return {next(iter(used)): loaded[0][1]}
    found: dict[str, Vocabulary] = {}
    for place, each in loaded:
        if each.name not in used:
            raise VocabularyError(
                f"{public_uri(place)}: {public_uri(output)} has no vocabulary {each.name!r}"
                f"{did_you_mean(each.name, used)}; it has {', '.join(used)}"
            )
        if each.name in found:
            raise VocabularyError(f"{public_uri(place)}: a second vocabulary named {each.name!r}; give one of each")
        found[each.name] = each
    return found


def _refuse_new_words(used: Vocabulary, new: Vocabulary, output: str) -> None:
    if used.wording == new.wording:
        return
    there, now = _owners(used), _owners(new)
    added = [now[each] for each in now.keys() - there.keys()]
    gone = [there[each] for each in there.keys() - now.keys()]
    kinds = {
        "re-worded": sorted(set(added) & set(gone)),
        "new": sorted(set(added) - set(gone)),
        "left out": sorted(set(gone) - set(added)),
    }
    said = [f"{kind}: {few(names)}" for kind, names in kinds.items() if names]
    if sorted(used.templates) != sorted(new.templates):
        said.append("other templates")
    where = public_uri(output)
    keep = "; or keep the prompts of what is left out as `distractors`, whose pixels are ignored"
    raise VocabularyError(
        f"vocabulary {new.name}: needs the model, since other words compete for the pixels than in {where} "
        f"({'; '.join(said)}); label with it: escnet annotate ... --update {where} --output NEW"
        f"{keep if kinds['left out'] else ''}"
    )


def _owners(vocabulary: Vocabulary) -> dict[tuple[str, ...], str]:
    """By the prompts of an entry, whose they are, in words."""
    owners = {tuple(sorted(c.prompts)): f"class {c.id} {c.name!r}" for c in vocabulary.classes if c.prompts}
    owners |= {tuple(sorted(d.prompts)): f"distractor {d.prompts[0]!r}" for d in vocabulary.distractors}
    return owners
