"""What a device is, and what it could compute at best."""

import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.actors.placement import local_cpus, local_gpus

# Dense operations a second by the makers' data sheets: float32 outside tensor cores, and bfloat16 or float16 in them.
_PEAKS = {
    "H200": (67e12, 989e12),
    "H100": (67e12, 989e12),  # the PCIe card: 51 and 756
    "A100": (19.5e12, 312e12),
    "L40S": (91.6e12, 362e12),
    "L4": (30.3e12, 121e12),
    "A10": (31.2e12, 125e12),
    "V100": (15.7e12, 125e12),
    "T4": (8.1e12, 65e12),
}


def describe_device(device: str) -> dict[str, Any]:
    """Its name, and how many there are of it."""
    if device == "cpu":
        return {"type": "cpu", "name": _cpu_name(), "n_cpus": local_cpus(), "n_gpus": 0}
    found: dict[str, Any] = {"type": "cuda", "name": None, "n_cpus": local_cpus(), "n_gpus": local_gpus()}
    if found["n_gpus"]:
        import torch

        found |= {"name": torch.cuda.get_device_name(0), "memory_mib": _gpu_memory_mib()}
    return found


def peak_flops(device: str, dtype: str) -> float | None:
    """Operations a second that the device could do in this type; None if nobody says, as of any CPU."""
    return None if device == "cpu" else known_peak(describe_device(device)["name"] or "", dtype)


def known_peak(name: str, dtype: str) -> float | None:
    """The same for a GPU of this name."""
    words = name.replace("-", " ").split()
    for model, (single, half) in _PEAKS.items():
        if model in words:
            return single if dtype == "float32" else half
    return None


def _gpu_memory_mib() -> int:
    import torch

    return int(torch.cuda.get_device_properties(0).total_memory // 2**20)


def _cpu_name() -> str:
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or os.uname().machine
