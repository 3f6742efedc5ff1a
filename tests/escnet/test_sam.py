import pytest
import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer

from escnet.config import preset_config
from escnet.network import EscNet
from escnet.prompts import make_prompts
from escnet.sam import SamBlock, build_prompt_encoder, dense_basis, dense_position, encode_prompts
from tests.escnet.tiny import tiny_config


def build(config, seed=0):
    torch.manual_seed(seed)
    return SamBlock(config).eval(), build_prompt_encoder(config)


def random_prompts(config, n_classes, seed=1):
    correlation = torch.randn(n_classes, *config.grid_hw, generator=torch.Generator().manual_seed(seed))
    return make_prompts(correlation, stride_px=config.patch_size, n_objects=5, threshold=1.04, iterations=10)


def tokens(grid):
    return grid.flatten(-2).mT


def run(block, encoder, image, prompts):
    """The block on patches row by row: (B, E, h, w) to (M, E, h, w)."""
    sparse, dense = encode_prompts(encoder, prompts)
    found = block(tokens(image), tokens(dense_position(encoder)), sparse, tokens(dense), dense_basis(encoder))
    return found.mT.unflatten(-1, image.shape[2:])


def sams_own_prompts(encoder, prompts):
    return encoder(points=(prompts.points, prompts.labels), boxes=None, masks=prompts.masks)


def sams_own_decoder(config):
    sam = config.sam
    transformer = TwoWayTransformer(
        depth=sam.depth, embedding_dim=sam.embed_dim, num_heads=sam.num_heads, mlp_dim=sam.mlp_dim
    )
    return MaskDecoder(transformer_dim=sam.embed_dim, transformer=transformer)


@torch.no_grad()
def test_block_is_what_segment_anythings_mask_decoder_does_to_the_image():
    config = tiny_config()
    block, encoder = build(config)
    decoder = sams_own_decoder(config)
    own = {name: value for name, value in block.state_dict().items() if not name.startswith("image_projection")}
    missing, unexpected = decoder.load_state_dict(own, strict=False)
    assert not unexpected
    assert all(name.startswith(("output_", "iou_prediction_head")) for name in missing)
    seen = []
    decoder.transformer.register_forward_hook(lambda _module, _inputs, outputs: seen.append(outputs[1]))

    image = torch.randn(2, 16, 8, 8)
    prompts = random_prompts(config, 6)  # three classes of two images
    found = run(block, encoder, image, prompts)
    sparse, dense = sams_own_prompts(encoder, prompts)
    for b in range(2):
        classes = slice(3 * b, 3 * b + 3)
        decoder.predict_masks(image[b : b + 1], encoder.get_dense_pe(), sparse[classes], dense[classes])
    expected = torch.cat(seen).transpose(1, 2).unflatten(-1, (8, 8))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_without_layers_the_image_and_its_mask_prompts_are_left():
    config = tiny_config(sam={**tiny_config().sam.model_dump(), "depth": 0})
    block, encoder = build(config)
    image = torch.randn(1, 16, 8, 8)
    prompts = random_prompts(config, 3)
    _, dense = sams_own_prompts(encoder, prompts)
    torch.testing.assert_close(run(block, encoder, image, prompts), image + dense)


def test_names_and_shapes_are_those_of_an_official_checkpoint():
    config = preset_config("escnet-b16")
    with torch.device("meta"):
        network = EscNet(config)
        decoder = sams_own_decoder(config)
        encoder = PromptEncoder(
            embed_dim=256, image_embedding_size=(64, 64), input_image_size=(1024, 1024), mask_in_chans=16
        )
    ours = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    wanted = {f"prompt_encoder.{name}": tuple(value.shape) for name, value in encoder.state_dict().items()}
    used = ("transformer.", "iou_token.", "mask_tokens.")
    for i in range(4):
        wanted |= {
            f"blocks.{i}.sam.{name}": tuple(value.shape)
            for name, value in decoder.state_dict().items()
            if name.startswith(used)
        }
    assert {name: ours.get(name) for name in wanted} == wanted
    others = {name for name in ours if name.startswith("prompt_encoder.") or ".sam." in name} - wanted.keys()
    assert all(".sam.image_projection." in name for name in others)


def test_a_24_by_24_grid_gives_a_24_by_24_dense_embedding():
    config = preset_config("escnet-nano")
    _, encoder = build(config)
    prompts = random_prompts(config, 3)
    sparse, dense = encode_prompts(encoder, prompts)
    assert prompts.masks.shape == (3, 1, 96, 96)
    assert (dense.shape, dense_basis(encoder).shape) == ((3, 18, 24, 24), (18, 64))
    assert sparse.shape == (3, 5 + 1, 64)
    assert dense_position(encoder).shape == (64, 24, 24)


@pytest.mark.parametrize(("y", "x"), [(0, 0), (3, 17), (23, 23)])
def test_points_are_normalised_by_the_networks_own_input_size(y, x):
    config = preset_config("escnet-nano")
    _, encoder = build(config)
    correlation = torch.zeros(1, 24, 24)
    correlation[0, y, x] = 1.0
    prompts = make_prompts(correlation, stride_px=config.patch_size, n_objects=1, threshold=1.04, iterations=10)
    dense_pe = dense_position(encoder)[:, y, x]
    # SAM adds half a pixel to every point; without it, the point lies on the centre of its patch.
    shifted = encoder(points=(prompts.points - 0.5, prompts.labels), boxes=None, masks=None)[0][0, 0]
    torch.testing.assert_close(shifted - encoder.point_embeddings[1].weight[0], dense_pe, rtol=0, atol=1e-4)
    sparse, _ = encode_prompts(encoder, prompts)
    offset = (sparse[0, 0] - encoder.point_embeddings[1].weight[0] - dense_pe).abs().max()
    assert 1e-3 < offset < 0.3  # half a pixel of 192


def test_empty_class_gets_sams_no_mask_embedding_and_no_point():
    config = tiny_config()
    _, encoder = build(config)
    correlation = torch.stack([torch.zeros(8, 8), torch.randn(8, 8)])
    prompts = make_prompts(correlation, stride_px=8, n_objects=5, threshold=1.04, iterations=10)
    sparse, dense = encode_prompts(encoder, prompts)
    no_mask = encoder(points=None, boxes=None, masks=None)[1]
    dense = torch.einsum("mrhw,re->mehw", dense, dense_basis(encoder))
    assert torch.equal(dense[0], no_mask[0])
    torch.testing.assert_close(dense[1], sams_own_prompts(encoder, prompts)[1][1], rtol=0, atol=1e-6)
    assert torch.equal(sparse[0], encoder.not_a_point_embed.weight.expand(6, -1))


def test_prompts_keep_their_places_under_autocast():
    config = tiny_config()
    _, encoder = build(config)
    prompts = random_prompts(config, 4)
    expected = encode_prompts(encoder, prompts)
    with torch.autocast("cpu", torch.bfloat16):
        found = encode_prompts(encoder, prompts)
        position = dense_position(encoder)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(position, encoder.get_dense_pe()[0])


def test_prompt_encoder_and_the_unused_last_attention_are_frozen():
    block, encoder = build(tiny_config())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    frozen = {name.split(".")[1] for name, parameter in block.named_parameters() if not parameter.requires_grad}
    assert frozen == {"final_attn_token_to_image", "norm_final_attn"}
