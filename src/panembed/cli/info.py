"""`panembed info`."""

from __future__ import annotations

from typing import Annotated

import typer


def info(
    settings: Annotated[
        bool, typer.Option("--settings", help="print all settings instead: kind, default, meaning")
    ] = False,
) -> None:
    """Print versions, the machine, the presets, and the models that come with the package."""
    if settings:
        from panembed.settings.page import settings_page

        typer.echo(settings_page(), nl=False)
        return
    from panembed.inference.model_config import summary
    from panembed.inference.model_folder import shipped_folder, shipped_names
    from panembed.machine.environment import environment
    from panembed.settings.schema import preset_names

    found = environment()
    packages = found.pop("packages")
    models = {f"model {name}": summary(shipped_folder(name)) for name in shipped_names()}
    for name, value in {**found, **packages, "presets": ", ".join(preset_names()), **models}.items():
        typer.echo(f"{name:30} {value}")
