"""The project's folder, with README.md, `docs/` and the packages."""

from pathlib import Path

PROJECT = Path(__file__).parents[2]
