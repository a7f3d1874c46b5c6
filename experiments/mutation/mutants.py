"""Small changes to a module's code, each of which its tests should notice.

Operators of the literature (DeMillo et al. 1978; Offutt et al. 1996): relational, arithmetic and logical operators replaced,
constants changed, conditions negated, statements deleted. Docstrings, annotations, texts, what is raised or logged, and blocks
for type checkers are left alone: no test should hold their wording through a change of code.
"""

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
}
_CALLS = {"min": "max", "max": "min", "any": "all", "all": "any", "argmin": "argmax", "argmax": "argmin"}


@dataclass(frozen=True)
class Mutant:
    """A module with one change.

    Attributes:
        module: its file, relative to ``src/raylight``.
        line: where the change is.
        before: the code of the changed part.
        after: what it became.
        source: the whole changed module.
    """

    module: Path
    line: int
    before: str
    after: str
    source: str


def mutants(module: Path, source: str) -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its code.

    Args:
        module: its file, relative to ``src/raylight``.
        source: its code.
    """
    count = sum(1 for _ in _places(ast.parse(source)))
    for number in range(count):
        tree = ast.parse(source)
        holder, field, position, changed = next(place for k, place in enumerate(_places(tree)) if k == number)
        value = getattr(holder, field)
        before = ast.unparse(value[position] if position is not None else value)
        line = (value[position] if position is not None else value).lineno
        if position is None:
            setattr(holder, field, changed)
        else:
            value[position] = changed
        yield Mutant(module, line, before, ast.unparse(changed), ast.unparse(ast.fix_missing_locations(tree)))


def _places(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Where a node's descendants can change: parent, field, position in a list, and the changed child."""
    for field, value in ast.iter_fields(node):
        if _is_left_alone(node, field):
            continue
        children = value if isinstance(value, list) else [value]
        for position, child in enumerate(children):
            if not isinstance(child, ast.AST) or _is_skipped(child):
                continue
            at = position if isinstance(value, list) else None
            if (changed := _changed(child)) is not None:
                yield node, field, at, changed
            yield from _places(child)


def _is_left_alone(node: ast.AST, field: str) -> bool:
    return field in ("annotation", "returns", "decorator_list", "type_params", "bases") or (
        isinstance(node, ast.Subscript) and field == "slice" and isinstance(node.ctx, ast.Store)
    )


def _is_skipped(node: ast.AST) -> bool:
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert):
        return True
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return True
    if isinstance(node, ast.Call):
        return ast.unparse(node.func).startswith(("log.", "logging.", "warnings.", "print"))
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _changed(node: ast.AST) -> ast.AST | None:
    """The node after its change; None where there is none."""
    changed = copy.deepcopy(node)
    match changed:
        case ast.Compare(ops=[operator]) if type(operator) in _COMPARISONS:
            changed.ops = [_COMPARISONS[type(operator)]()]
        case ast.BinOp(op=operator, left=left, right=right) if type(operator) in _ARITHMETIC:
            if any(isinstance(side, ast.JoinedStr) or _is_text(side) for side in (left, right)):
                return None
            changed.op = _ARITHMETIC[type(operator)]()
        case ast.BoolOp(op=operator):
            changed.op = ast.Or() if isinstance(operator, ast.And) else ast.And()
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            return operand
        case ast.Constant(value=bool(value)):
            changed.value = not value
        case ast.Constant(value=int(value)):
            changed.value = value + 1
        case ast.Constant(value=float(value)):
            changed.value = value * 2 if value else 1.0
        case ast.If(test=test) | ast.IfExp(test=test):
            changed.test = ast.UnaryOp(ast.Not(), test)
        case ast.Call(func=ast.Name(id=name)) if name in _CALLS:
            changed.func = ast.Name(_CALLS[name], ast.Load())
        case ast.Call(func=ast.Attribute(attr=name)) if name in _CALLS:
            changed.func.attr = _CALLS[name]  # type: ignore[attr-defined]
        case ast.Expr(value=ast.Call()):
            return ast.Pass(lineno=node.lineno, col_offset=0)
        case _:
            return None
    return changed


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
