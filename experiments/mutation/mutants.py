"""Small faults in source code: where they can be put, and the source that holds one.

A file is parsed once and all its places are listed; a mutant is built by replacing one piece of text. Left out: what is no
behaviour (docstrings, annotations, imports, assertions for the type checker) and the wording of messages (strings, what
``raise`` is given), and how a figure is drawn (calls on its axes).
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COMPARISONS: dict[type[ast.cmpop], list[str]] = {
    ast.Lt: ["<=", ">"],
    ast.LtE: ["<", ">="],
    ast.Gt: [">=", "<"],
    ast.GtE: [">", "<="],
    ast.Eq: ["!="],
    ast.NotEq: ["=="],
    ast.In: ["not in"],
    ast.NotIn: ["in"],
    ast.Is: ["is not"],
    ast.IsNot: ["is"],
}
ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.FloorDiv: "/",
    ast.Mod: "*",
    ast.Pow: "*",
    ast.BitAnd: "|",
    ast.BitOr: "&",
}


NO_BEHAVIOUR = {"cast", "TypeVar", "panel", "figure", "ax", "below", "bar"}
"""What is called, or has the method that is called, for the type checker or for a figure's looks alone."""


@dataclass(frozen=True)
class Mutant:
    """One fault: the bytes from ``start`` to ``end`` of a file, replaced."""

    file: str
    line: int
    kind: str
    start: int
    end: int
    was: str
    becomes: str

    @property
    def key(self) -> str:
        """What tells it from all others, as long as the source stays."""
        return f"{self.file}:{self.start}:{self.end}:{self.kind}:{self.becomes}"

    def source(self, original: bytes) -> bytes:
        """The file's source with the fault in it."""
        return original[: self.start] + self.becomes.encode() + original[self.end :]


def mutants(root: Path, file: str) -> list[Mutant]:
    """All faults that ``root/file`` can have, in the order of the source."""
    source = (root / file).read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def ends(node: ast.AST) -> tuple[int, int]:
        return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset

    def written(node: ast.AST) -> str:
        return source[slice(*ends(node))].decode()

    def mutant(kind: str, node: ast.AST, becomes: str) -> Mutant:
        return Mutant(file, node.lineno, kind, *ends(node), written(node), becomes)

    def text(node: ast.AST) -> str:
        found = written(node)
        return found if isinstance(node, ast.Name | ast.Constant | ast.Call | ast.Attribute) else f"({found})"

    def faults(node: ast.AST) -> Iterator[Mutant]:
        match node:
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                for i, op in enumerate(ops):
                    for symbol in COMPARISONS[type(op)]:
                        sides = [text(side) for side in (left, *comparators)]
                        symbols = [ast.unparse(ast.Compare(ast.Name("a"), [o], [ast.Name("b")]))[2:-2] for o in ops]
                        symbols[i] = symbol
                        rest = " ".join(f"{s} {side}" for s, side in zip(symbols, sides[1:], strict=True))
                        yield mutant("comparison", node, f"({sides[0]} {rest})")
            case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC and not {
                type(left), type(right)
            } & {ast.JoinedStr, ast.List, ast.Tuple} and not any(
                isinstance(side, ast.Constant) and isinstance(side.value, str) for side in (left, right)
            ):  # fmt: skip
                yield mutant("arithmetic", node, f"({text(left)} {ARITHMETIC[type(op)]} {text(right)})")
            case ast.BoolOp(op=op, values=values):
                word = " or " if isinstance(op, ast.And) else " and "
                yield mutant("and/or", node, f"({word.join(text(value) for value in values)})")
            case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
                yield mutant("negation", node, text(operand))
            case ast.Constant(value=bool(value)):
                yield mutant("constant", node, str(not value))
            case ast.Constant(value=int(value)):
                yield mutant("constant", node, str(value + 1))
                yield mutant("constant", node, f"({value - 1})")
            case ast.Constant(value=float(value)):
                yield mutant("constant", node, str(2 * value if value else 1.0))
            case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
                yield mutant("condition", test, f"(not {text(test)})")
            case ast.comprehension(ifs=ifs):
                for test in ifs:
                    yield mutant("condition", test, f"(not {text(test)})")
            case ast.Return(value=value) if value and not (isinstance(value, ast.Constant) and value.value is None):
                yield mutant("return", node, "return None")
            case ast.Raise() | ast.Continue() | ast.Break() | ast.AugAssign() | ast.Delete():
                yield mutant("statement", node, "pass")
            case ast.Expr(value=ast.Call()):
                yield mutant("statement", node, "pass")
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript(), *_]):
                yield mutant("statement", node, "pass")
            case ast.Call(args=args, keywords=keywords):
                for dropped in keywords:
                    if dropped.arg:
                        left_in = [written(a) for a in (*args, *keywords) if a is not dropped]
                        yield mutant("keyword", node, f"{text(node.func)}({', '.join(left_in)})")

    return sorted((f for node in _behaviour(ast.parse(source)) for f in faults(node)), key=lambda f: (f.start, f.key))


def _behaviour(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below that say what happens, not how it is called or typed."""
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "exc", "cause", "type_params", "format_spec"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(
                child, ast.Import | ast.ImportFrom | ast.Assert | ast.JoinedStr
            ):
                continue
            if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
                continue
            called = child.value if isinstance(child, ast.Expr) else child
            if isinstance(called, ast.Call) and ast.unparse(called.func).partition(".")[0] in NO_BEHAVIOUR:
                continue
            yield child
            yield from _behaviour(child)
