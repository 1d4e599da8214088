"""Keys of settings: those that somebody set, and those that a name may mean."""

from __future__ import annotations

from collections.abc import Iterable

from panembed.settings.schema import known_keys, parse_override


def keys_of(section: str, overrides: Iterable[str]) -> set[str]:
    """The keys of a section that `key.path=value` overrides set.

    >>> sorted(keys_of("model", ["model.start_from=leaf", "model={density: true}", "training.epochs=5"]))
    ['density', 'start_from']
    """
    keys: set[str] = set()
    for path, value in map(parse_override, overrides):
        if path[0] == section:
            keys |= {path[1]} if len(path) > 1 else set(value if isinstance(value, dict) else ())
    return keys


def setting_called(name: str) -> str | None:
    """The key of the only setting that ends in a name; None where there is none, or several.

    >>> setting_called("epochs"), setting_called("nothing"), setting_called("scale")
    ('training.epochs', None, None)
    """
    found = [key for key in known_keys() if key.rpartition(".")[2] == name]
    return found[0] if len(found) == 1 else None
