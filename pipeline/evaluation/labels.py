"""Which labels of an output are compared: those of one vocabulary, which may have to be that of a benchmark."""

from pipeline.output.files import existing_job
from pipeline.output.labelled import LabelledOutput, open_one_vocabulary
from pipeline.protocols import Protocol, vocabulary_differences
from pipeline.storage import StorageOptions
from pipeline.vocabularies import load_vocabulary
from schemas.errors import InputError
from schemas.manifest import public_uri
from schemas.vocabulary import Vocabulary


def open_labels(output: str, asked: str | None, protocol: Protocol | None, storage: StorageOptions) -> LabelledOutput:
    """The labels of an output that were made with one vocabulary.

    Args:
        asked: name of the vocabulary; may be None if the output has one, or the protocol's.
        protocol: whose vocabulary it must be.

    Raises:
        InputError: no output, no such vocabulary, or nothing labelled yet.
    """
    if asked is None and protocol is not None:
        job = existing_job(output, storage)
        asked = protocol.vocabulary if protocol.vocabulary in job.vocabularies else None
    labels = open_one_vocabulary(output, storage, asked)
    if protocol is not None:
        _check_protocol(protocol, labels.vocabulary, labels.name)
    return labels


def _check_protocol(protocol: Protocol, vocabulary: Vocabulary, output: str) -> None:
    differing = vocabulary_differences(vocabulary, load_vocabulary(protocol.vocabulary))
    if differing:
        raise InputError(
            f"{public_uri(output)}: {protocol.name} is measured with the bundled vocabulary {protocol.vocabulary!r}, "
            f"and the labels have another ({'; '.join(differing)}); label with that one, or leave --protocol out"
        )
