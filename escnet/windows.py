"""The order in which the patches of a picture go through the blocks: window after window, row by row in each.

Nearly all of a block works on every patch by itself, and attention over all patches does not mind their order. So the
patches are put in the order of the windows of the vision attention (`vlf.py`) once a picture, and cutting windows out
of the features of a class, and putting them back, is a change of shape instead of two copies.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Windows(nn.Module):
    """Windows over a grid, as even as it allows; where they do not divide it, the last ones are padded.

    Args:
        grid_hw: of the patches.
        largest: side of a window, at most.
    """

    def __init__(self, grid_hw: tuple[int, int], largest: int) -> None:
        super().__init__()
        h, w = self.grid_hw = grid_hw
        wh, ww = self.window_hw = tuple(_even_window(side, largest) for side in grid_hw)
        grid = np.pad(np.arange(h * w).reshape(h, w), ((0, -h % wh), (0, -w % ww)), constant_values=-1)
        slots = grid.reshape(grid.shape[0] // wh, wh, -1, ww).swapaxes(1, 2).reshape(-1, wh * ww)  # (windows, area)
        is_real = slots >= 0
        order = slots[is_real]
        self._add("order", order)  # (h*w,) place in the grid of each token
        self._add("places", order.argsort())  # (h*w,) token of each place in the grid
        is_padded = not is_real.all()
        token_of_slot = np.where(is_real.ravel(), is_real.ravel().cumsum() - 1, h * w)  # h*w: of no token
        self._add("token_of_slot", token_of_slot if is_padded else None)  # (windows * area,)
        self._add("slot_of_token", np.flatnonzero(is_real) if is_padded else None)  # (h*w,)
        mask = np.where(is_real, 0, -np.inf).astype(np.float32)[:, None].repeat(wh * ww, axis=1)
        self._add("padding_mask", mask if is_padded else None)  # (windows, area, area), -inf for a key that is padding

    def _add(self, name: str, table: np.ndarray | None) -> None:
        self.register_buffer(name, None if table is None else torch.tensor(table), persistent=False)

    def to_tokens(self, grid: Tensor) -> Tensor:
        """(..., h, w) to (..., h*w)."""
        return grid.flatten(-2).index_select(-1, self.order)

    def to_grid(self, tokens: Tensor, dim: int = -1) -> Tensor:
        """Tokens along `dim`, (..., h*w, ...), to (..., h, w, ...)."""
        return tokens.index_select(dim, self.places).unflatten(dim, self.grid_hw)

    def cut(self, tokens: Tensor) -> Tensor:
        """(M, h*w, C) to (M * windows, area, C), padding zero."""
        if self.token_of_slot is not None:
            tokens = F.pad(tokens, (0, 0, 0, 1)).index_select(1, self.token_of_slot)
        return tokens.reshape(-1, self.window_hw[0] * self.window_hw[1], tokens.shape[-1])

    def join(self, windows: Tensor, n_maps: int) -> Tensor:
        """What `cut` made of `n_maps` maps, back to (M, h*w, C)."""
        tokens = windows.reshape(n_maps, -1, windows.shape[-1])
        return tokens if self.token_of_slot is None else tokens.index_select(1, self.slot_of_token)


def _even_window(side: int, largest: int) -> int:
    """The window that cuts `side` into as few pieces as `largest` would, with the least padding."""
    n_windows = -(-side // largest)
    return -(-side // n_windows)
