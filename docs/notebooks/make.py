"""Make why_depth.ipynb out of why_depth.py: `python docs/notebooks/make.py`. Run the notebook to fill in its outputs."""

import json
import re
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("why_depth.py")


def notebook(text: str) -> str:
    """The percent format (`# %%`, `# %% [markdown]`) as a notebook in JSON, version 4.5, without outputs."""
    parts = re.split(r"^# %%( \[markdown\])?\n", text, flags=re.M)[1:]
    cells = [_cell(number, bool(kind), body.strip()) for number, (kind, body) in enumerate(zip(parts[::2], parts[1::2], strict=True))]
    python = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}, "language_info": {"name": "python"}}
    return json.dumps({"cells": cells, "metadata": python, "nbformat": 4, "nbformat_minor": 5}, indent=1, ensure_ascii=False) + "\n"


def _cell(number: int, markdown: bool, body: str) -> dict[str, Any]:
    if markdown:
        lines = "\n".join(re.sub(r"^# ?", "", line) for line in body.splitlines())
        return {"cell_type": "markdown", "id": f"cell-{number}", "metadata": {}, "source": lines.splitlines(keepends=True)}
    source = body.splitlines(keepends=True)
    return {"cell_type": "code", "execution_count": None, "id": f"cell-{number}", "metadata": {}, "outputs": [], "source": source}


if __name__ == "__main__":
    SOURCE.with_suffix(".ipynb").write_text(notebook(SOURCE.read_text(encoding="utf-8")), encoding="utf-8")
