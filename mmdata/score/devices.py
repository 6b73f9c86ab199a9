"""What scorers can run on here."""

from __future__ import annotations


def gpu_names() -> list[str]:
    """Names of the CUDA devices, none on a machine without. Raises ImportError where torch is not installed."""
    import torch

    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
