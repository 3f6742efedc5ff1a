"""What is odd in a vocabulary file: its words, and what a model's tokeniser and text encoder make of them."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pipeline.storage import StorageOptions
from pipeline.vocabularies import read_vocabulary_text
from schemas.documents import Place
from schemas.errors import one_line
from schemas.vocabulary import Vocabulary
from schemas.vocabulary_files import parse_vocabulary, written_parts
from schemas.vocabulary_lint import Finding, entry_paths, lint_words, name_of
from schemas.vocabulary_mistakes import Mistake, MistakesError

CONTEXT_LENGTH = 77  # of CLIP's text encoder, in tokens
NEAR = 0.97  # cosine similarity of two classes' text embeddings

if TYPE_CHECKING:  # torch is loaded where a model is given
    from escnet.base_network import Network
    from escnet.models import ResolvedModel

Place_ = Callable[[tuple[int | str, ...]], Place]


def lint(name_or_file: str, model: str | None, options: StorageOptions) -> tuple[str, list[Finding]]:
    """Findings about a vocabulary, those of its words in the order of the file, then those of the model.

    Args:
        name_or_file: as for `load_vocabulary`.
        model: a preset or checkpoint that is to use it; without one CLIP's context length is checked alone.

    Returns:
        The file's name for messages, and the findings. Of a file that cannot be used they
        are what is wrong with it, all errors.

    Raises:
        VocabularyError: no such file, or not readable.
        ModelError: a model that cannot be used.
    """
    text, file_name = read_vocabulary_text(name_or_file, options)
    try:
        vocabulary = parse_vocabulary(text, file_name)
    except MistakesError as error:
        return file_name, sorted(map(_as_finding, error.mistakes), key=lambda each: each.line or 0)
    written, place = written_parts(text, file_name)
    found = sorted(lint_words(vocabulary, written, place), key=lambda each: each.line or 0)
    if model is not None:
        return file_name, found + list(_with_model(vocabulary, place, model))
    return file_name, found + list(_too_long(vocabulary, place))


def _as_finding(mistake: Mistake) -> Finding:
    problem, _, remedy = one_line(mistake.message).partition("; ")
    return Finding("error", mistake.line, mistake.where, problem, remedy or "put it right")


def _too_long(vocabulary: Vocabulary, place: Place_, context_length: int = CONTEXT_LENGTH) -> Iterator[Finding]:
    """Prompts too long for the text encoder. A text has at most as many tokens as bytes, so most need no count."""
    room = context_length - 2  # start and end of text
    encode: Callable[[str], list[int]] | None = None
    for path, prompts in entry_paths(vocabulary):
        for prompt in prompts:
            longest = max((template.replace("{}", prompt) for template in vocabulary.templates), key=len)
            if len(longest.encode()) <= room:
                continue
            encode = encode or _clip_tokens()
            n_tokens = len(encode(longest))
            if n_tokens > room:
                problem = f"{prompt[:60]!r} in its template has {n_tokens + 2} tokens, more than {context_length}"
                where = name_of(vocabulary, path)
                yield Finding("error", place(path).line, where, problem, "shorten the prompt or the template")


def _clip_tokens() -> Callable[[str], list[int]]:
    from open_clip.tokenizer import SimpleTokenizer  # loads torch, and few vocabularies need it

    return SimpleTokenizer().encode


def _with_model(vocabulary: Vocabulary, place: Place_, model: str) -> Iterator[Finding]:
    from escnet.models import load_model, resolve_model

    resolved = resolve_model(model)
    context_length = int(resolved.config.clip["text_cfg"].get("context_length", CONTEXT_LENGTH))
    too_long = list(_too_long(vocabulary, place, context_length))
    yield from too_long
    yield from _unknown(vocabulary, place, resolved)
    if not too_long:
        yield from _alike(vocabulary, place, load_model(resolved))


def _unknown(vocabulary: Vocabulary, place: Place_, model: "ResolvedModel") -> Iterator[Finding]:
    """Words that the model was never trained with, by where they stand."""
    from escnet.text import unknown_words

    words = unknown_words(model.config, vocabulary)
    texts = [(path, " ".join(prompts)) for path, prompts in entry_paths(vocabulary)]
    texts.append((("templates",), " ".join(vocabulary.templates)))
    for path, text in texts if words else ():
        found = [word for word in words if word in text.casefold()]
        if found:
            problem = f"{model.name} was never trained with {', '.join(map(repr, found))}"
            remedy = "use words it knows, or another model"
            yield Finding("warning", place(path).line, name_of(vocabulary, path), problem, remedy)


def _alike(vocabulary: Vocabulary, place: Place_, network: "Network") -> Iterator[Finding]:
    """Pairs of classes and distractors that the text encoder can hardly tell apart."""
    from escnet.text import compile_vocabulary

    compiled = compile_vocabulary(network, vocabulary)
    similarity = (compiled.text.embeddings @ compiled.text.embeddings.T).cpu().numpy()
    paths = {tuple(sorted(prompts)): path for path, prompts in entry_paths(vocabulary)}
    of_entry = [paths[entry.prompts] for entry in vocabulary.entries]
    for i, j in zip(*(similarity >= NEAR).nonzero(), strict=True):
        if i < j:
            first, second = sorted((of_entry[i], of_entry[j]))
            other = name_of(vocabulary, first)
            problem = f"means nearly the same to the model as {other} (similarity {similarity[i, j]:.2f})"
            where = name_of(vocabulary, second)
            yield Finding("warning", place(second).line, where, problem, "make them one class, or say how they differ")
