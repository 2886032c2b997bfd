"""The port doctor's reference: signatures and docstrings, read from its source."""

import ast
from pathlib import Path

from tools.project import ROOT

PACKAGE = ROOT / "course_utils" / "parity"
HEAD = """\
# The port doctor's functions and classes

```python
from course_utils.parity import {names}
```
"""


def reference() -> str:
    """Return a page with all that `course_utils.parity` exports, in Markdown."""
    exported = _exported()
    names = ", ".join(sorted(exported))
    return "\n".join([HEAD.format(names=names), *(_entry(m, n) for n, m in exported.items())])


def _exported() -> dict[str, Path]:
    """Return the module of each name that the package exports, functions before classes."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    found = {
        alias.name: PACKAGE / f"{node.module}.py"
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return dict(sorted(found.items(), key=lambda item: (item[0][0].isupper(), item[0])))


def _entry(module: Path, name: str) -> str:
    tree = ast.parse(module.read_text("utf-8"))
    node = next(n for n in tree.body if getattr(n, "name", "") == name)
    if isinstance(node, ast.FunctionDef):
        return f"## `{name}`\n\n{_signature(node)}\n\n{ast.get_docstring(node)}\n"
    base = next((ast.unparse(b) for b in node.bases), "")
    parts = [f"## `{name}`\n", f"A class{f', a kind of `{base}`' if base else ''}.\n"]
    parts.append((ast.get_docstring(node) or "") + "\n")
    methods = [
        n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")
    ]
    for method in methods:
        parts.append(f"### `{name}.{method.name}`\n\n{_signature(method)}\n")
        parts.append((ast.get_docstring(method) or "") + "\n")
    return "\n".join(parts)


def _signature(node: ast.FunctionDef) -> str:
    """Return a function's signature as a block of code, an argument a line where it is long."""
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    decorators = {ast.unparse(d) for d in node.decorator_list}
    if "property" in decorators:
        return f"```python\n{node.name}{returns.replace(' ->', ':')}\n```"
    line = f"{node.name}({ast.unparse(node.args)}){returns}"
    if len(line) > 76:
        line = f"{node.name}(\n    {_one_a_line(node.args)},\n){returns}"
    return f"```python\n{line}\n```"


def _one_a_line(arguments: ast.arguments) -> str:
    """Return arguments with a line each; a `*` or `/` alone has its own."""
    text, depth, lines = ast.unparse(arguments), 0, [""]
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth:
            lines.append("")
        else:
            lines[-1] += letter
    return ",\n    ".join(line.strip() for line in lines)
