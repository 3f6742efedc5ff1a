"""SAM's prompt encoder and, in every ESC-Block, a copy of SAM's mask decoder transformer.

Segment Anything (Kirillov et al. 2023, arXiv:2304.02643), its own modules under its own names, so that an official
checkpoint loads key by key. ESC-Net (Lee et al. 2025, arXiv:2411.14723) keeps the image side of the output where SAM
goes on with the token side. Decided here, as the paper is silent: each block has the full two-layer transformer and
its own 1x1 projection of CLIP's patches to SAM's channels (nearest to the paper's parameter count), and SAM's iou
and mask tokens stay in front of the prompts, as in its pre-training.
"""

import torch
from segment_anything.modeling import PromptEncoder, TwoWayTransformer
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn

from escnet.config import EscNetConfig
from escnet.prompts import Prompts
from escnet.two_way import OwnPatches, SharedPatches, two_way_layer


def build_prompt_encoder(config: EscNetConfig) -> PromptEncoder:
    """SAM's prompt encoder for this grid and input size, frozen."""
    encoder = PromptEncoder(
        embed_dim=config.sam.embed_dim,
        image_embedding_size=config.grid_hw,
        input_image_size=(config.image_size, config.image_size),
        mask_in_chans=config.sam.mask_in_chans,
    )
    return encoder.requires_grad_(False)


def encode_prompts(encoder: PromptEncoder, prompts: Prompts) -> tuple[Tensor, Tensor]:
    """One sparse and one dense embedding per class, the dense one as coordinates of `dense_basis`.

    SAM's dense embedding ends in a 1x1 convolution of a few channels to E. That is left to the block, which adds the
    image in the same pass.

    Returns:
        (M, N_o + 1, E), SAM's own padding point last, and (M, R, h, w): SAM's mask channels and 1, or, of an empty
        class, zeros and 1 for SAM's no-mask embedding.
    """
    is_empty = prompts.is_empty.view(-1, 1, 1, 1).float()
    # Never in half precision: 2 pi x would be rounded to a tenth of a turn.
    with torch.autocast(prompts.points.device.type, enabled=False):
        sparse, _ = encoder(points=(prompts.points, prompts.labels), boxes=None, masks=None)
        channels = encoder.mask_downscaling[:-1](prompts.masks) * (1 - is_empty)
    ones = is_empty.expand(-1, 1, *channels.shape[2:])
    return sparse, torch.cat([channels, 1 - ones, ones], dim=1)


def dense_basis(encoder: PromptEncoder) -> Tensor:
    """(R, E): what each channel of the dense coordinates from `encode_prompts` stands for."""
    last = encoder.mask_downscaling[-1]
    return torch.cat([last.weight.flatten(1).T, last.bias.unsqueeze(0), encoder.no_mask_embed.weight])


def dense_position(encoder: PromptEncoder) -> Tensor:
    """SAM's positional encoding of the grid, (E, h, w)."""
    with torch.autocast(encoder.no_mask_embed.weight.device.type, enabled=False):
        return encoder.get_dense_pe().squeeze(0)


class SamBlock(nn.Module):
    """SAM's mask decoder transformer on CLIP's patches, for all classes at once."""

    def __init__(self, config: EscNetConfig) -> None:
        super().__init__()
        sam = config.sam
        self.image_projection = nn.Sequential(
            nn.Conv2d(config.clip["embed_dim"], sam.embed_dim, kernel_size=1), LayerNorm2d(sam.embed_dim)
        )
        self.transformer = TwoWayTransformer(
            depth=sam.depth, embedding_dim=sam.embed_dim, num_heads=sam.num_heads, mlp_dim=sam.mlp_dim
        )
        # The last attention changes the tokens alone, which we do not use: kept for SAM's checkpoints, never trained.
        self.transformer.final_attn_token_to_image.requires_grad_(False)
        self.transformer.norm_final_attn.requires_grad_(False)
        self.iou_token = nn.Embedding(1, sam.embed_dim)
        self.mask_tokens = nn.Embedding(sam.num_mask_tokens, sam.embed_dim)

    def project(self, patches: Tensor) -> Tensor:
        """CLIP's patches (B, C, h, w) in SAM's channels, (B, E, h, w); the same for all classes."""
        return self.image_projection(patches)

    def forward(self, image: Tensor, position: Tensor, sparse: Tensor, dense: Tensor, basis: Tensor) -> Tensor:
        """The image as the prompts of each class leave it. The patches may come in any order.

        Args:
            image: (B, n, E) patches from `project`.
            position: (n, E), from `dense_position` in the order of the patches.
            sparse: (B*k, N, E) prompt embeddings of k classes, those of an image together.
            dense: (B*k, n, R) coordinates of the dense embeddings.
            basis: (R, E) from `dense_basis`.

        Returns:
            (B*k, n, E).
        """
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        first = torch.cat([output_tokens.expand(len(sparse), -1, -1).to(sparse.dtype), sparse], dim=1)
        tokens, patches = first, SharedPatches(image, position, dense, basis)
        for layer in self.transformer.layers:
            tokens, found = two_way_layer(layer, tokens, patches, first)
            patches = OwnPatches(found, position)
        return patches.whole()
