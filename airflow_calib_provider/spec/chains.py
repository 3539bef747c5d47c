"""Names with their parts, such as ``run.files[0]``, in the tree of an expression whose nodes have their offsets."""

from __future__ import annotations

from jinja2 import nodes

Chained = nodes.Name | nodes.Getattr | nodes.Getitem


def start_of(node: nodes.Node) -> int:
    """Where a chain such as ``a.b[0]`` begins."""
    while isinstance(node, nodes.Getattr | nodes.Getitem | nodes.Call):
        node = node.node
    return node.lineno


def chain_of(node: nodes.Node) -> tuple[tuple[str, ...], list[nodes.Node]]:
    """The constant path that a chain of names and subscripts starts with, and the other subscripts."""
    parts: list[str | nodes.Node] = []
    while isinstance(node, nodes.Getattr | nodes.Getitem):
        if isinstance(node, nodes.Getattr):
            parts.append(node.attr)
        elif isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
            parts.append(node.arg.value)
        else:
            parts.append(node.arg)
        node = node.node
    if not isinstance(node, nodes.Name):
        return (), []
    path: list[str] = [node.name]
    others: list[nodes.Node] = []
    for part in reversed(parts):
        if isinstance(part, nodes.Node):
            others.append(part)
        elif not others:
            # What follows an index, as in runs[0].number, is not known by name: the path ends before it.
            path.append(part)
    return tuple(path), others
