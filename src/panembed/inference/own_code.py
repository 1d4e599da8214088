"""Code that a model's network is written in, where that is not panembed's: nothing is imported unless the user says so.

A model file or a settings file may come from anybody. It can name a class, `package.module:Class`, but the module is
imported only where the user named it, too.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from panembed.errors import ModelError, SettingsError

_ALLOWED: ContextVar[frozenset[str]] = ContextVar("allowed", default=frozenset())

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_own(architecture: str) -> bool:
    """Whether the name of an architecture is that of a class outside panembed.

    >>> is_own("my_networks.tiny:TinyNet"), is_own("Unet")
    (True, False)
    """
    return ":" in architecture


def module_of(architecture: str) -> str:
    """The module that `package.module:Class` names.

    Raises:
        SettingsError: it isn't written so.

    >>> module_of("my_networks.tiny:TinyNet")
    'my_networks.tiny'
    """
    module, _, name = architecture.partition(":")
    if not (_MODULE.fullmatch(module) and name.isidentifier()):
        raise SettingsError(
            f"model.architecture: {architecture!r} names no class; expected package.module:Class, such as "
            "my_networks.tiny:TinyNet"
        )
    return module


@contextmanager
def allowing(modules: Iterable[str]) -> Iterator[None]:
    """Let models take their networks from these modules while the block runs, besides those allowed around it.

    Raises:
        SettingsError: not the name of a module.
    """
    names = frozenset(modules)
    for name in names:
        if not _MODULE.fullmatch(name):
            raise SettingsError(
                f"--allow-module {name!r}: expected the name of a Python module, such as my_networks.tiny"
            )
    token = _ALLOWED.set(_ALLOWED.get() | names)
    try:
        yield
    finally:
        _ALLOWED.reset(token)


def find(architecture: str) -> Any:
    """What `package.module:Class` names, if its module is allowed; the current folder is searched last.

    Raises:
        ModelError: the module is not allowed.
        SettingsError: it can't be imported, or has no such class.
    """
    module_name = module_of(architecture)
    if module_name not in _ALLOWED.get():
        raise ModelError(
            f"the network is {architecture}, code that is no part of panembed, and was not imported; if you trust it, "
            f"add --allow-module {module_name} (in Python allow_modules=[{module_name!r}])"
        )
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the user's code may raise anything
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise SettingsError(
                f"model.architecture: there is no module {error.name!r}; expected {module_name} to be installed, in "
                "the current folder, or on PYTHONPATH"
            ) from error
        raise SettingsError(
            f"model.architecture: {module_name} can't be imported ({type(error).__name__}: {_first_line(error)}); mend "
            "the module"
        ) from error
    name = architecture.partition(":")[2]
    if not callable(getattr(module, name, None)):
        there = [key for key, value in vars(module).items() if isinstance(value, type) and not key.startswith("_")]
        raise SettingsError(
            f"model.architecture: {module_name} has no class {name!r}; there are {', '.join(there[:10]) or 'none'}"
        )
    return getattr(module, name)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
