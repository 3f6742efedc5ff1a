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

from escnet.config import ModelConfig
from escnet.prompts import Prompts


def build_prompt_encoder(config: ModelConfig) -> PromptEncoder:
    """SAM's prompt encoder for this grid and input size, frozen."""
    encoder = PromptEncoder(
        embed_dim=config.sam.embed_dim,
        image_embedding_size=config.grid_hw,
        input_image_size=(config.image_size, config.image_size),
        mask_in_chans=config.sam.mask_in_chans,
    )
    return encoder.requires_grad_(False)


def encode_prompts(encoder: PromptEncoder, prompts: Prompts) -> tuple[Tensor, Tensor]:
    """One sparse and one dense embedding per class.

    Returns:
        (M, N_o + 1, C), SAM's own padding point last, and (M, C, h, w), SAM's no-mask embedding for an empty class.
    """
    # Never in half precision: 2 pi x would be rounded to a tenth of a turn.
    with torch.autocast(prompts.points.device.type, enabled=False):
        sparse, dense = encoder(points=(prompts.points, prompts.labels), boxes=None, masks=prompts.masks)
    no_mask = encoder.no_mask_embed.weight.view(1, -1, 1, 1)
    return sparse, torch.where(prompts.is_empty.view(-1, 1, 1, 1), no_mask, dense)


def dense_position(encoder: PromptEncoder) -> Tensor:
    """SAM's positional encoding of the grid, (1, C, h, w)."""
    with torch.autocast(encoder.no_mask_embed.weight.device.type, enabled=False):
        return encoder.get_dense_pe()


class SamBlock(nn.Module):
    """SAM's mask decoder transformer on CLIP's patches, for all classes at once."""

    def __init__(self, config: ModelConfig) -> None:
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

    def forward(self, image: Tensor, position: Tensor, sparse: Tensor, dense: Tensor) -> Tensor:
        """The image as the prompts of each class leave it.

        Args:
            image: (B, E, h, w) from `project`.
            position: (1, E, h, w) from `dense_position`.
            sparse: (B*k, N, E) prompt embeddings of k classes, those of an image together.
            dense: (B*k, E, h, w).

        Returns:
            (B*k, E, h, w), a view with the channels last.
        """
        n, _, h, w = dense.shape
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([output_tokens.expand(n, -1, -1).to(sparse.dtype), sparse], dim=1)
        keys = _as_tokens(dense).unflatten(0, (image.shape[0], -1)) + _as_tokens(image).unsqueeze(1)
        queries, keys = tokens, keys.flatten(0, 1).contiguous()  # (B*k, h*w, E)
        key_pe = _as_tokens(position)
        for layer in self.transformer.layers:
            queries, keys = layer(queries=queries, keys=keys, query_pe=tokens, key_pe=key_pe)
        return keys.transpose(1, 2).unflatten(-1, (h, w))


def _as_tokens(grid: Tensor) -> Tensor:
    return grid.flatten(2).transpose(1, 2)  # (n, E, h, w) -> (n, h*w, E)
