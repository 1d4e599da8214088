"""`python -m panembed` is the command `panembed`: for environments whose scripts are not on the PATH."""

from __future__ import annotations

from panembed.cli import main

if __name__ == "__main__":
    main()
