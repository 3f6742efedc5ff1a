"""From a vocabulary to text embeddings, and to all else that depends on the vocabulary alone.

Every prompt is put into every template; their embeddings are normalised, averaged for each entry, and normalised
again, as CLIP ensembles prompts (Radford et al. 2021, arXiv:2103.00020, section 3.1.4).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from escnet.base_config import ModelConfig
from escnet.base_network import Network, TextFeatures
from escnet.clip import build_tokenizer
from schemas.errors import VocabularyError
from schemas.vocabulary import Entry, Vocabulary

# Every pass has this many texts, the last filled up: the shape of a product decides how its sums are rounded.
_BATCH_SIZE = 16


@dataclass(frozen=True)
class CompiledVocabulary:
    """A vocabulary as the network takes it.

    codes: (K,) int32, the code of each entry in canonical order, that of `Vocabulary.entries`.
    text: of the same K entries in the same order, on the network's device.
    """

    codes: np.ndarray
    text: TextFeatures


def compile_vocabulary(network: Network, vocabulary: Vocabulary, embed: "Embed | None" = None) -> CompiledVocabulary:
    """Encode a vocabulary.

    Args:
        embed: gives what `embed_vocabulary` gives, from where it was kept.

    Raises:
        VocabularyError: as `embed_vocabulary`.
    """
    embeddings = (embed or embed_vocabulary)(network, vocabulary)
    codes = np.array([entry.code for entry in vocabulary.entries], np.int32)
    device = next(network.parameters()).device
    with torch.no_grad():
        return CompiledVocabulary(codes, network.prepare_text(embeddings.to(device)))


@torch.no_grad()
def embed_vocabulary(network: Network, vocabulary: Vocabulary) -> Tensor:
    """One embedding of unit norm for each entry, (K, C) float32 on the CPU; each distinct text is encoded once.

    The order of classes, prompts and templates in the vocabulary changes no byte of the result. Adding or removing
    classes changes the embeddings of the others by rounding at most, as their place in a batch may change.

    Raises:
        VocabularyError: a prompt in its template is longer than the text encoder's context.
    """
    entries_of = _entries_of_texts(vocabulary)
    tokens = _tokenize(network, vocabulary.name, sorted(entries_of))
    sums = torch.zeros(len(vocabulary.entries), network.config.clip["embed_dim"], dtype=torch.float64)
    for texts, embeddings in _encode(network, tokens):
        for text, embedding in zip(texts, embeddings, strict=True):
            for entry in entries_of[text]:
                sums[entry] += embedding
    return F.normalize(sums, dim=-1).float()


Embed = Callable[[Network, Vocabulary], Tensor]


def unknown_words(config: ModelConfig, vocabulary: Vocabulary) -> list[str]:
    """The words of a vocabulary, templates included, that the network was not trained with.

    Words as CLIP's tokeniser cuts and spells them, in the order of `Vocabulary.entries`; one of several tokens counts
    if any of them has no row of its own in the token table. None for a network with the whole table.
    """
    if config.trained_tokens is None:
        return []
    tokenizer, trained = build_tokenizer(config), set(config.trained_tokens)
    texts = (text for entry in vocabulary.entries for text in _texts(entry, vocabulary))
    words = dict.fromkeys(word for text in texts for word in tokenizer.pat.findall(tokenizer.clean_fn(text)))
    return [word for word in words if not trained.issuperset(tokenizer.encode(word))]


def _entries_of_texts(vocabulary: Vocabulary) -> dict[str, list[int]]:
    """Each text, a prompt in a template, and the places of the entries it belongs to."""
    entries_of: dict[str, list[int]] = {}
    for place, entry in enumerate(vocabulary.entries):
        for text in _texts(entry, vocabulary):
            entries_of.setdefault(text, []).append(place)
    return entries_of


def _texts(entry: Entry, vocabulary: Vocabulary) -> list[str]:
    return [template.replace("{}", prompt) for prompt in entry.prompts for template in vocabulary.templates]


def _tokenize(network: Network, name: str, texts: list[str]) -> dict[str, Tensor]:
    """(context,) token ids of each text; open_clip's tokenizer by itself would cut a long one in silence."""
    tokenizer = build_tokenizer(network.config)
    for text in texts:
        n_tokens = len(tokenizer.encode(text)) + 2  # start and end of text
        if n_tokens > tokenizer.context_length:
            raise VocabularyError(
                f"vocabulary {name}: {text[:80]!r} has {n_tokens} tokens, expected at most {tokenizer.context_length}; "
                "shorten the prompt or the template"
            )
    return dict(zip(texts, tokenizer(texts), strict=True))


def _encode(network: Network, tokens: dict[str, Tensor]) -> Iterator[tuple[list[str], Tensor]]:
    """Texts and their (n, C) float64 embeddings of unit norm on the CPU, batch by batch."""
    device = next(network.parameters()).device
    texts = list(tokens)
    for start in range(0, len(texts), _BATCH_SIZE):
        batch = texts[start : start + _BATCH_SIZE]
        filled = torch.stack([tokens[text] for text in batch] + [tokens[batch[-1]]] * (_BATCH_SIZE - len(batch)))
        embeddings = network.encode_tokens(filled.to(device))[: len(batch)]
        yield batch, F.normalize(embeddings.double().cpu(), dim=-1)
