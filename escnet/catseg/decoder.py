"""CAT-Seg's decoder: that of `escnet.decoder`, but for a transposed convolution where ESC-Net enlarges bilinearly.

Cho et al. 2024, arXiv:2303.11797, section 3.4.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from escnet.base_config import norm_groups
from escnet.catseg.config import CatSegConfig
from escnet.decoder import Decoder


class Stage(nn.Module):
    """Twice the size, then two 3x3 convolutions, the first of them over features and guidance, in two halves."""

    def __init__(self, in_dim: int, guidance_dim: int, out_dim: int) -> None:
        super().__init__()
        self.enlarge = nn.ConvTranspose2d(in_dim, in_dim - guidance_dim, kernel_size=2, stride=2)
        self.mix = nn.Conv2d(in_dim - guidance_dim, out_dim, kernel_size=3, padding=1, bias=False)
        self.norm = nn.GroupNorm(norm_groups(out_dim), out_dim)
        self.refine = nn.Conv2d(out_dim, out_dim, kernel_size=3, padding=1, bias=False)
        self.refine_norm = nn.GroupNorm(norm_groups(out_dim), out_dim)

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:
        """(B*k, in_dim, H, W) features and (B, out_dim, 2H, 2W) guidance to (B*k, out_dim, 2H, 2W)."""
        x = self.mix(self.enlarge(x)).unflatten(0, (guidance.shape[0], -1)) + guidance.unsqueeze(1)
        x = F.relu(self.norm(x.flatten(0, 1)))
        return F.relu(self.refine_norm(self.refine(x)))


class CatSegDecoder(Decoder):
    """Two stages and a 3x3 convolution to one logit."""

    def __init__(self, config: CatSegConfig) -> None:
        super().__init__(config)
        in_dims = (config.hidden_dim, *config.decoder_dims[:-1])
        dims = zip(in_dims, config.guidance_dims, config.decoder_dims, strict=True)
        self.stages = nn.ModuleList(Stage(*each) for each in dims)
