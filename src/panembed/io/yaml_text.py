"""YAML as plain data, with one kind of error for all that is wrong with it."""

from __future__ import annotations

import re
from typing import Any

import yaml

_EXPONENT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")


class _Loader(yaml.SafeLoader):
    """Refuses a key that occurs twice, of which YAML's own loader keeps the last without a word.

    Reads 1e-3 as the number that it is in YAML 1.2; to PyYAML, which knows 1.1, it is text.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.composer.ComposerError(None, None, f"the key {key.value!r} occurs twice", key.start_mark)
                seen.add((key.tag, key.value))
        return node


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))


def load_yaml(text: str) -> Any:
    """Read one document as plain data.

    Raises:
        ValueError: it isn't YAML, a key occurs twice in a mapping, or a value is none, such as a date of month 13.

    >>> load_yaml("{a: 1, b: [2, x]}")
    {'a': 1, 'b': [2, 'x']}
    >>> load_yaml("[1e-3, '1e-3']")
    [0.001, '1e-3']
    >>> load_yaml("{a: 1, a: 2}")
    Traceback (most recent call last):
    ValueError: the key 'a' occurs twice in "<unicode string>", line 1, column 8: {a: 1, a: 2} ^
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(" ".join(str(error).split())) from error
