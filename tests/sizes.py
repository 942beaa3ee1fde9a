"""Holds the source to its size limits: 500 lines a file, 60 lines and 6 parameters a function. `python tests/sizes.py [FOLDER…]`."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

FILE_LINES = 500
FUNCTION_LINES = 60
PARAMETERS = 6


def excesses(path: Path) -> Iterator[str]:
    """One sentence for everything in a file that is over a limit."""
    text = path.read_text()
    lines = text.count("\n")
    if lines > FILE_LINES:
        yield f"{path}: {lines} lines, at most {FILE_LINES}: split it by what it holds"
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > FUNCTION_LINES:
            yield f"{path}:{node.lineno}: {node.name} has {length} lines, at most {FUNCTION_LINES}: take a part out"
        count = _parameters(node)
        if count > PARAMETERS:
            yield f"{path}:{node.lineno}: {node.name} takes {count} parameters, at most {PARAMETERS}: a record is missing"


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Parameters of a function, without self and cls."""
    arguments = node.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"])) + (arguments.vararg is not None) + (arguments.kwarg is not None)


def main(folders: list[str]) -> int:
    files = sorted(path for folder in folders or ["src"] for path in Path(folder).rglob("*.py"))
    found = [line for path in files for line in excesses(path)] if files else [f"no Python file in {', '.join(folders)}"]
    print("\n".join(found) if found else f"sizes: {len(files)} files within the limits")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
