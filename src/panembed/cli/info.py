"""`panembed info`."""

from __future__ import annotations

from typing import Annotated

import typer

from panembed.cli.options import Device


def info(
    settings: Annotated[
        bool, typer.Option("--settings", help="print all settings instead: kind, default, meaning")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="run the shipped models: is the result that of other machines?")
    ] = False,
    device: Device = "auto",
) -> None:
    """Print versions, the machine, the presets, and the models that come with the package.

    Example: panembed info --check
    """
    from panembed.errors import SettingsError

    if settings and check:
        raise SettingsError("--settings prints a page and --check runs the models; give one of them")
    if device != "auto" and not check:
        raise SettingsError("--device has no effect without --check; leave it out")
    if settings:
        from panembed.settings.page import settings_page

        typer.echo(settings_page(), nl=False)
    elif check:
        _check(device)
    else:
        _print_versions()


def _print_versions() -> None:
    from panembed.inference.model_config import summary
    from panembed.inference.model_folder import shipped_folder, shipped_names
    from panembed.machine.environment import environment
    from panembed.settings.schema import preset_names

    found = environment()
    packages = found.pop("packages")
    models = {f"model {name}": summary(shipped_folder(name)) for name in shipped_names()}
    for name, value in {**found, **packages, "presets": ", ".join(preset_names()), **models}.items():
        typer.echo(f"{name:30} {value}")


def _check(device: str) -> None:
    from panembed.assembly import trained_model
    from panembed.errors import ModelError
    from panembed.evaluation.model_check import compare_outputs
    from panembed.inference.model_folder import shipped_folder, shipped_names

    faults = []
    for name in shipped_names():
        compared = compare_outputs(trained_model.load(name, device=device), shipped_folder(name))
        faults += [f"model {name}, {one.fault}" for one in compared if one.fault is not None]
        difference, pixels = max(c.largest_difference for c in compared), min(c.same_pixels for c in compared)
        told = "the same result as stored" if all(c.same for c in compared) else "ANOTHER RESULT than stored"
        typer.echo(
            f"model {name}: {told} on {len(compared)} pictures; the network's outputs differ by at most "
            f"{difference:.1g}, {pixels:.2%} of the pixels lie in the same object"
        )
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise ModelError(
            f"{faults[0]}{more}: this machine or installation gives another result; install panembed again, and if it "
            "stays so, report it with what `panembed info` prints"
        )
