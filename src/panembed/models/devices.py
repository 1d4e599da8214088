"""Which device computes, and in which precision."""

from __future__ import annotations

from pathlib import Path

import torch

from panembed.errors import SettingsError


def device(name: str) -> torch.device:
    """The device called cpu, cuda, cuda:1, mps, ...; auto takes the fastest kind there is.

    Raises:
        SettingsError: no such device here.
    """
    if name == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return found if found is not None else torch.device("cpu")
    try:
        chosen = torch.device(name)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:160]
        raise SettingsError(
            f"--device {name}: not to be had here ({reason}); expected auto, cpu, cuda or mps"
        ) from error
    return chosen


def computes_bfloat16(chosen: torch.device) -> bool:
    """Whether bfloat16 is fast there: on CPUs only with instructions for it, else it is many times slower."""
    if chosen.type == "cpu":
        capability = torch.backends.cpu.get_cpu_capability()
        flags = Path("/proc/cpuinfo").read_text(errors="replace") if Path("/proc/cpuinfo").exists() else ""
        return "AVX512" in capability and ("avx512_bf16" in flags or "amx_bf16" in flags)
    return chosen.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def mixed_precision(wanted: str, chosen: torch.device) -> str:
    """Accelerate's name of a precision on a device.

    Args:
        wanted: float32, bfloat16, or auto, which takes bfloat16 where it is fast.
        chosen: the device.
    """
    if wanted == "auto":
        return "bf16" if computes_bfloat16(chosen) else "no"
    return "bf16" if wanted == "bfloat16" else "no"
