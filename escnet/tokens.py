"""A token table of only the words a network was trained with, in place of all 49,408 of CLIP's BPE.

Any words are still accepted: a token without a row of its own falls back, always the same way, to one of a few rows
that were never trained. What a network makes of such a word means nothing, so callers name it to the user.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

N_FALLBACK_ROWS = 16


class TokenTable(nn.Embedding):
    """Takes ids of the whole BPE, (...,), and gives (..., width).

    Args:
        trained: the ids with a row of their own.
        vocab_size: ids of the whole BPE.
        width: of an embedding.
    """

    def __init__(self, trained: Sequence[int], vocab_size: int, width: int) -> None:
        super().__init__(len(trained) + N_FALLBACK_ROWS, width)
        nn.init.normal_(self.weight, std=0.02)  # as open_clip does
        rows = len(trained) + torch.arange(vocab_size) % N_FALLBACK_ROWS
        rows[torch.tensor(trained)] = torch.arange(len(trained))
        self.register_buffer("rows", rows, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(self.rows[tokens])
