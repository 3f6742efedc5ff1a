"""VLF, vision-language fusion: a class's correlation refined by what SAM saw and by the words of all classes.

ESC-Net (Lee et al. 2025, arXiv:2411.14723). As the paper draws it, both attentions take their residual after the first
norm. Decided here: window attention without shift; attention width d, not E + d; padding of a grid that the window
does not divide is masked; a layer norm on F_l before keys and values (its unit vectors have tiny elements); linear
attention is Katharopoulos et al. 2020 (arXiv:2006.16236) with elu + 1; a pre-norm residual around the language FFN.
"""

from dataclasses import dataclass

import torch
from timm.models.swin_transformer import WindowAttention
from torch import Tensor, nn
from torch.nn import functional as F

from escnet.config import EscNetConfig
from escnet.windows import Windows

FFN_RATIO = 4  # hidden width of both FFNs, in units of d


@dataclass(frozen=True)
class LanguageSummary:
    """All that language attention needs of a vocabulary, of a size that does not depend on the number of classes.

    key_values: (heads, d/heads, d/heads), mean over classes of phi(k) v^T.
    keys: (heads, d/heads), mean over classes of phi(k).
    """

    key_values: Tensor
    keys: Tensor


class VisionAttention(nn.Module):
    """Part (a) of the figure: one window-attention block over the correlation of a class beside its image features."""

    def __init__(self, config: EscNetConfig) -> None:
        super().__init__()
        d, width = config.hidden_dim, config.hidden_dim + config.sam.embed_dim
        self.windows = Windows(config.grid_hw, config.window_size)
        self.embed = nn.Linear(1, d)  # a 1x1 convolution, channels last
        self.norm = nn.LayerNorm(width)
        self.attention = WindowAttention(
            width, config.attention_heads, head_dim=d // config.attention_heads, window_size=self.windows.window_hw
        )
        self.attention.fused_attn = True  # timm's other path: a third less time on a CPU
        self.ffn = _ffn(width, d)

    def forward(self, correlation: Tensor, features: Tensor) -> Tensor:
        """(B, k, n) correlation and (B, k, n, E) features, or (B, 1, n, E), to (B, k, n, d)."""
        b, k, _ = correlation.shape
        # Never in half precision: the bias is of size 1 and would take the last digits of the small cosines beside it.
        with torch.autocast(correlation.device.type, enabled=False):
            embedded = self.embed(correlation.float().unsqueeze(-1))
        features = features.expand(-1, k, -1, -1).to(embedded.dtype)
        x = self.norm(torch.cat([embedded, features], dim=-1)).flatten(0, 1)  # (B*k, n, width)
        attended = self.attention(self.windows.cut(x), mask=self.windows.padding_mask)
        return self.ffn(x + self.windows.join(attended, b * k)).unflatten(0, (b, k))


class LanguageAttention(nn.Module):
    """Part (b) of the figure: linear attention from every pixel of a class to the text embeddings of all classes."""

    def __init__(self, config: EscNetConfig) -> None:
        super().__init__()
        d, text_width = config.hidden_dim, config.clip["embed_dim"]
        self.n_heads = config.attention_heads
        self.norm = nn.LayerNorm(d)
        self.text_norm = nn.LayerNorm(text_width)
        self.query = nn.Linear(d, d)
        self.key = nn.Linear(text_width, d)
        self.value = nn.Linear(text_width, d)
        self.project = nn.Linear(d, d)
        self.ffn = _ffn(d, d)

    def summarise(self, embeddings: Tensor) -> LanguageSummary:
        """What (K, C) text embeddings come to; divided by K, so that it does not grow with the vocabulary."""
        text = self.text_norm(embeddings)
        keys = F.elu(self.key(text).unflatten(-1, (self.n_heads, -1))) + 1  # (K, heads, d/heads)
        keys = keys / len(text)  # before the sum over classes, which half precision may not hold
        values = self.value(text).unflatten(-1, (self.n_heads, -1))
        return LanguageSummary(torch.einsum("khi,khj->hij", keys, values), keys.sum(dim=0))

    def forward(self, x: Tensor, summary: LanguageSummary) -> Tensor:
        """(B, k, n, d) to (B, k, n, d)."""
        x = self.norm(x)
        queries = F.elu(self.query(x)) + 1  # (B, k, n, d), positive
        total = (queries @ _columns(summary.keys)).clamp(min=1e-6)  # (B, k, n, heads)
        weights = (queries.unflatten(-1, (self.n_heads, -1)) / total.unsqueeze(-1)).flatten(-2)
        x = x + F.linear(weights, self._answers(summary), self.project.bias)
        return x + self.ffn(x)

    def _answers(self, summary: LanguageSummary) -> Tensor:
        """(d, d): the summary's values as `project` leaves them; products of matrices may be taken in any order."""
        heads = self.project.weight.T.unflatten(0, (self.n_heads, -1))  # (heads, d/heads, d)
        return (summary.key_values @ heads).flatten(0, 1).T


def _columns(heads: Tensor) -> Tensor:
    """(heads, d/heads) as a matrix (d, heads) that keeps the heads apart."""
    return torch.block_diag(*heads).T


class VisionLanguageFusion(nn.Module):
    """Vision attention, then language attention."""

    def __init__(self, config: EscNetConfig) -> None:
        super().__init__()
        self.vision = VisionAttention(config)
        self.language = LanguageAttention(config)

    def forward(self, correlation: Tensor, features: Tensor, summary: LanguageSummary) -> Tensor:
        """(B, k, n) correlation and (B, k, n, E) features, or (B, 1, n, E), to (B, k, n, d)."""
        return self.language(self.vision(correlation, features), summary)


def _ffn(width: int, d: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, FFN_RATIO * d), nn.GELU(), nn.Linear(FFN_RATIO * d, d))
