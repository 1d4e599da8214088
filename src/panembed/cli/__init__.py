"""The command line: one file a verb."""

from __future__ import annotations

from panembed.cli.app import main

__all__ = ["main"]
