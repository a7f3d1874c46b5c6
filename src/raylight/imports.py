"""Importing large libraries faster: in a thread, with fewer garbage collections, and no more of them than is needed."""

import contextlib
import ctypes  # noqa: F401 - see imported_meanwhile
import functools
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any


@contextlib.contextmanager
def few_collections() -> Iterator[None]:
    """Makes Python's cyclic garbage collection a hundred times rarer within.

    Importing torch and what belongs to it creates half a million objects, which Python would otherwise traverse again and
    again to find hardly any garbage: an eighth of the time. See https://docs.python.org/3/library/gc.html#gc.set_threshold.
    """
    usual = gc.get_threshold()
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


@contextlib.contextmanager
def imported_meanwhile(*modules: str) -> Iterator[None]:
    """Imports modules in a thread beside what the caller does, and is done with them at the end.

    PyTorch Lightning, torchmetrics and torchvision take three seconds of one core, in which Ray's processes start just as
    well. The caller may fork: what children of Ray run before they become programs needs only ctypes, which is here already.

    Args:
        modules: by their full names, in order.

    Raises:
        ImportError: one of them can't be imported; also whatever else importing it raises.
    """
    from concurrent.futures import ThreadPoolExecutor

    filters = list(warnings.filters)
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="raylight-imports") as pool:
            importing = [pool.submit(importlib.import_module, module) for module in modules]
            yield
            for module in importing:
                module.result()
    finally:
        _restore_filters(filters)


def _restore_filters(before: Sequence[tuple[Any, ...]]) -> None:
    """Removes new filters for all warnings, and puts back what was removed.

    ``warnings.catch_warnings`` isn't safe in threads: modules of torch show all warnings for a moment while they are imported,
    and where another thread enters it in that moment and leaves it later, all warnings stay shown.
    See https://docs.python.org/3/library/warnings.html#warnings.catch_warnings.
    """
    new = [each for each in warnings.filters if each not in before and each[1:4] != (None, Warning, None)]
    warnings.filters = [*new, *before]
    with warnings.catch_warnings():
        pass  # entering and leaving it makes Python forget what it decided by other filters


@contextlib.contextmanager
def without_init(package: str) -> Iterator[None]:
    """Lets modules of a package be imported without running the package's own code, which may import much more.

    At the end everything imported of the package is forgotten, so that a later import gets all of it. Where the package is
    imported already, nothing changes.

    Args:
        package: its full name; the package it lies in is imported.
    """
    if package in sys.modules or (spec := importlib.util.find_spec(package)) is None:
        yield
        return
    sys.modules[package] = importlib.util.module_from_spec(spec)
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
            del sys.modules[name]


COMPILER = "torch._dynamo"
"""torch's compiler, with sympy and more a tenth of the processor time of a short command."""

SIGNAL = "scipy.signal"
"""SciPy's signal processing, which imports its statistics, too: a twentieth."""


def postpone_imports() -> None:
    """Leaves what others import, but may never use, out of this process until it is used.

    torchvision, Lightning and each optimizer of torch import its compiler, only to keep functions out of it and to recognise
    what it compiled; torchmetrics imports SciPy's signal processing to add a window to it. Stand-ins do that; whatever else
    is asked of them, ``torch.compile`` first of all, imports the real modules. What is imported already stays as it is.
    torch's own modules import the compiler late for the same reason (``torch/_compile.py``).
    """
    if COMPILER not in sys.modules and (folders := _folders("torch", "_dynamo")):
        optimized = _Compiled("OptimizedModule", (), {})
        for module in (
            _StandIn(
                COMPILER, __path__=folders, disable=_disabled, graph_break=_graph_break, OptimizedModule=optimized
            ),
            _StandIn(
                f"{COMPILER}.utils", is_compile_supported=lambda device: _compiler().utils.is_compile_supported(device)
            ),
        ):
            sys.modules[module.__name__] = module
        sys.meta_path.insert(0, _CompilerFinder())
    if SIGNAL not in sys.modules and (folders := _folders("scipy", "signal")):
        sys.modules[SIGNAL] = _StandIn(SIGNAL, __path__=folders, hamming=_hamming)


def _folders(package: str, subpackage: str) -> list[str]:
    """Where a subpackage lies, found without importing the package; nowhere if it isn't installed."""
    spec = importlib.util.find_spec(package)
    return [f"{folder}/{subpackage}" for folder in (spec and spec.submodule_search_locations) or ()]


class _StandIn(ModuleType):
    """Stands for a module that isn't imported yet, and imports it when asked for anything that it hasn't."""

    def __init__(self, name: str, **members: Any) -> None:
        super().__init__(name)
        vars(self).update(members)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # such as inspect asks of every module
            raise AttributeError(name)
        return getattr(_real(self.__name__), name)


class _Compiled(type):
    """The class of a stand-in for a class of the compiler: only what the real one made is an instance."""

    def __instancecheck__(cls, instance: object) -> bool:
        return _compiler_is_imported() and isinstance(instance, getattr(_compiler(), cls.__name__))


class _CompilerFinder(importlib.abc.MetaPathFinder):
    """Imports the whole compiler where a module of it is imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith(f"{COMPILER}.") or _compiler_is_imported():
            return None
        _compiler()
        module = sys.modules.get(fullname)
        return importlib.util.spec_from_loader(fullname, _Imported(module)) if module else None


class _Imported(importlib.abc.Loader):
    """Gives a module that is imported already."""

    def __init__(self, module: ModuleType) -> None:
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec


def _compiler_is_imported() -> bool:
    return not isinstance(sys.modules.get(COMPILER), _StandIn)


def _compiler() -> Any:
    return _real(COMPILER)


def _real(name: str) -> Any:
    """The module of this name, instead of the stand-ins for it and for others of its package from now on."""
    package = f"{name.partition('.')[0]}."
    for other, module in list(sys.modules.items()):
        if other.startswith(package) and isinstance(module, _StandIn):
            del sys.modules[other]
    return importlib.import_module(name)


def _hamming(*arguments: Any, **settings: Any) -> Any:
    """The window as SciPy had it once under this name."""
    return _real(SIGNAL).windows.hamming(*arguments, **settings)


def _graph_break() -> None:
    """Nothing: nothing is compiled."""


def _disabled(function: Callable[..., Any] | None = None, *arguments: Any, **settings: Any) -> Callable[..., Any]:
    """A function that the compiler leaves alone, once there is one (torch._dynamo.disable)."""
    if function is None:
        return functools.partial(_disabled, **settings)

    @functools.cache
    def left_alone() -> Callable[..., Any]:
        made: Callable[..., Any] = _compiler().disable(function, *arguments, **settings)
        return made

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return (left_alone() if _compiler_is_imported() else function)(*args, **kwargs)

    return call
