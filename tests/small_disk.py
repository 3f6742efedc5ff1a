"""A disk of a few kilobytes, really mounted, where this machine permits it."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


class SmallDisk:
    """A file system of its own at `path`, whose size and rights can be changed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def remount(self, options: str) -> None:
        """Such as "size=10m" or "ro"."""
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.path)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], SmallDisk]]:
    """Mounts a disk of so many KiB; skips where only an administrator may."""
    mounted: list[SmallDisk] = []

    def mount(size_kib: int) -> SmallDisk:
        path = tmp_path / f"disk {len(mounted)}"
        path.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs", str(path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            pytest.skip(f"needs to mount a small disk: {error}")
        if done.returncode:
            pytest.skip(f"needs to mount a small disk: {done.stderr.strip()}")
        mounted.append(SmallDisk(path))
        return mounted[-1]

    yield mount
    for disk in mounted:
        subprocess.run(["umount", str(disk.path)], check=True)
