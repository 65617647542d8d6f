"""Code blocks of the documents, by their language."""

import re
from pathlib import Path

from ctrail_pipeline_tests.support.project import PROJECT

README = (PROJECT / "README.md").read_text()


def blocks(document: Path, language: str) -> list[str]:
    pattern = rf"^ *```{language}\n(.*?)^ *```"
    return re.findall(pattern, document.read_text(), re.DOTALL | re.MULTILINE)


def fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
