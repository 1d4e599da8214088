"""`panembed info`."""

from __future__ import annotations

import typer


def info() -> None:
    """Print versions, the machine, and the presets."""
    from panembed.build import environment
    from panembed.config import preset_names

    found = environment()
    packages = found.pop("packages")
    for name, value in {**found, **packages, "presets": ", ".join(preset_names())}.items():
        typer.echo(f"{name:30} {value}")
