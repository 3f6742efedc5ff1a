"""Train a small U-Net on labels, straight from the dataset that `escnet annotate` wrote.

    python examples/train_unet.py LABELS [SECONDS [OTHER]]

LABELS is the --output of `escnet annotate`, on a disk or in object storage; SECONDS is how long to train (60). OTHER is
a second such output, of other pictures with the same vocabulary, on which the network is measured in the end.
"""

import sys
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset

import pipeline

SIDE_PX = 64


def resize(sample: dict) -> dict:
    """Pictures of one size make batches; masks keep whole ids, by nearest pixel."""
    image = F.interpolate(sample["image"][None].float() / 255, (SIDE_PX, SIDE_PX), mode="area")[0]
    mask = F.interpolate(sample["mask"][None, None].float(), (SIDE_PX, SIDE_PX), mode="nearest")[0, 0].long()
    return {"image": image, "mask": mask}


def convolutions(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out, momentum=0.3), nn.ReLU(),
        nn.Conv2d(n_out, n_out, 3, padding=1), nn.BatchNorm2d(n_out, momentum=0.3), nn.ReLU(),
    )  # fmt: skip


class UNet(nn.Module):
    """Ronneberger et al. 2015 (arXiv:1505.04597), small: two levels down and up. (B, 3, H, W) to (B, K, H, W)."""

    def __init__(self, n_classes: int, width: int = 16) -> None:
        super().__init__()
        self.down = nn.ModuleList([convolutions(3, width), convolutions(width, 2 * width)])
        self.bottom = convolutions(2 * width, 4 * width)
        self.up = nn.ModuleList([convolutions(6 * width, 2 * width), convolutions(3 * width, width)])
        self.head = nn.Conv2d(width, n_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skipped = []
        for block in self.down:
            skipped.append(block(x))
            x = F.max_pool2d(skipped[-1], 2)
        x = self.bottom(x)
        for block in self.up:
            x = block(torch.cat([F.interpolate(x, scale_factor=2), skipped.pop()], 1))
        return self.head(x)


@torch.no_grad()
def mean_iou(network: UNet, dataset: IterableDataset) -> float:
    """Over the classes that occur in the labels, each over all pictures; ignored pixels are left out."""
    network.eval()
    n = len(dataset.classes)
    confusion = torch.zeros(n * n, dtype=torch.int64)
    for batch in DataLoader(dataset, batch_size=8):
        counts = batch["mask"] >= 0
        pairs = batch["mask"][counts] * n + network(batch["image"]).argmax(1)[counts]
        confusion += pairs.bincount(minlength=n * n)
    confusion = confusion.reshape(n, n)
    both, labelled, found = confusion.diag(), confusion.sum(1), confusion.sum(0)
    return float((both / (labelled + found - both).clamp(min=1))[labelled > 0].mean())


def main(labels: str, seconds: float = 60.0, other: str | None = None) -> float:
    """Train, say how it goes now and then, and return the share of pixels that is right at the end."""
    torch.manual_seed(0)
    dataset = pipeline.open_labels(labels, shuffle=True, min_confidence=0.3, transform=resize)
    network = UNet(len(dataset.classes))
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    started, epoch, right, loss = time.monotonic(), 0, 0.0, torch.zeros(())
    while time.monotonic() - started < seconds:
        dataset.set_epoch(epoch)
        n_right = n_pixels = 0
        for batch in DataLoader(dataset, batch_size=8):
            logits = network(batch["image"])
            loss = F.cross_entropy(logits, batch["mask"])  # leaves out -100, the ignored pixels
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            counts = batch["mask"] >= 0
            n_right += int((logits.argmax(1) == batch["mask"])[counts].sum())
            n_pixels += int(counts.sum())
        right, epoch = n_right / max(n_pixels, 1), epoch + 1
        if epoch == 1 or epoch % 10 == 0:
            print(f"epoch {epoch}: {right:.1%} of the pixels as the labels say")
    so_far = f"{epoch} epochs in {time.monotonic() - started:.0f} s, loss {loss.item():.2f}"
    print(f"{so_far}: {right:.1%} of the pixels as the labels say")
    if other is not None:
        unseen = pipeline.open_labels(other, min_confidence=0.3, transform=resize)
        if unseen.classes != dataset.classes:
            sys.exit(f"{other}: was labelled with other classes than {labels}; expected the same vocabulary")
        print(f"{other}: mIoU {mean_iou(network, unseen):.3f}")
    return right


if __name__ == "__main__":
    main(sys.argv[1], float((sys.argv[2:] or ["60"])[0]), *sys.argv[3:4])
