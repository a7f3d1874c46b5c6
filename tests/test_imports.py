"""Modules are imported beside other work, and what goes wrong in them is raised where they were asked for."""

import gc
import importlib
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from raylight.imports import few_collections, imported_meanwhile, without_init


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_modules_are_there_at_the_end_and_the_caller_need_not_wait(folder: Path) -> None:
    (folder / "waits_for_its_importer.py").write_text(
        "import sys, time\nwhile 'raylight_test_goes_on' not in sys.modules: time.sleep(0.01)\n"
    )
    try:
        with imported_meanwhile("waits_for_its_importer", "colorsys"):
            sys.modules["raylight_test_goes_on"] = sys
        assert {"waits_for_its_importer", "colorsys"} <= sys.modules.keys()
    finally:
        sys.modules.pop("raylight_test_goes_on", None)


def test_what_importing_raises_arrives(folder: Path) -> None:
    (folder / "does_not_import.py").write_text("raise OSError('libfoo.so is missing')")
    with pytest.raises(OSError, match="libfoo"), imported_meanwhile("does_not_import"):
        pass
    with pytest.raises(ModuleNotFoundError, match="no_such_module_here"), imported_meanwhile("no_such_module_here"):
        pass


def test_the_collector_is_as_it_was_afterwards() -> None:
    before = gc.get_threshold()
    with few_collections():
        assert gc.get_threshold() > before
    assert gc.get_threshold() == before
    with pytest.raises(ZeroDivisionError), few_collections():
        _ = 1 / 0
    assert gc.get_threshold() == before


def test_the_callers_own_error_comes_first() -> None:
    with pytest.raises(ZeroDivisionError), imported_meanwhile("no_such_module_here"):
        _ = 1 / 0


def test_warnings_are_shown_as_before_though_both_threads_change_their_filters(folder: Path) -> None:
    """The module's filter for all warnings would stay: the caller enters while it is there, and leaves after the module."""
    (folder / "shows_all_warnings.py").write_text(
        "import sys, time, warnings\n"
        "warnings.simplefilter('ignore', BytesWarning)\n"
        "warnings.filterwarnings('ignore', module='one_module')\n"
        "with warnings.catch_warnings():\n"
        "    warnings.simplefilter('always')\n"
        "    sys.modules['raylight_test_shows_all'] = sys\n"
        "    while 'raylight_test_entered' not in sys.modules: time.sleep(0.01)\n"
        "sys.modules['raylight_test_left'] = sys\n"
    )

    def wait_for(name: str) -> None:
        while name not in sys.modules:
            time.sleep(0.01)

    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            with imported_meanwhile("shows_all_warnings"):
                wait_for("raylight_test_shows_all")
                with warnings.catch_warnings():
                    sys.modules["raylight_test_entered"] = sys
                    wait_for("raylight_test_left")
        finally:
            for name in ("shows_all", "entered", "left"):
                sys.modules.pop(f"raylight_test_{name}", None)
        assert [(action, kind, module and "one module") for action, _, kind, module, _ in warnings.filters] == [
            ("ignore", Warning, "one module"),
            ("ignore", BytesWarning, None),
            ("ignore", ResourceWarning, None),
        ]


def test_a_module_is_imported_without_what_its_package_imports(folder: Path) -> None:
    (folder / "large_package").mkdir()
    (folder / "large_package" / "__init__.py").write_text("import colorsys\nwhole = True\n")
    (folder / "large_package" / "small.py").write_text("value = 3\n")
    with without_init("large_package"):
        small = importlib.import_module("large_package.small")
        assert small.value == 3
        assert not hasattr(sys.modules["large_package"], "whole")
    assert not {"large_package", "large_package.small"} & sys.modules.keys()
    try:
        whole = importlib.import_module("large_package")
        assert whole.whole
        with without_init("large_package"):
            assert importlib.import_module("large_package") is whole
        assert sys.modules["large_package"] is whole
        with without_init("large_package.no_such_module"):
            pass
    finally:
        sys.modules.pop("large_package", None)


WITHOUT_COMPILER = """
import inspect, os, sys
from raylight.imports import postpone_imports
postpone_imports()
import pytorch_lightning, torch, torchvision
from lightning_fabric.wrappers import OptimizedModule

@torch.compiler.disable
def is_compiled():
    return torch.compiler.is_compiling()

layer = torch.nn.Linear(2, 2)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
before = layer.bias.detach().clone()
layer(torch.zeros(1, 2)).sum().backward()
optimizer.step()
optimizer.zero_grad()
inspect.getmodule(sys._getframe())  # asks each module for its file
print(torch.equal(layer.bias, before - 0.5), is_compiled(), isinstance(layer, OptimizedModule), "sympy" in sys.modules)
if os.fork() == 0:
    import torch._dynamo.eval_frame as module
    print(module is torch._dynamo.eval_frame, module.__spec__.loader.name == module.__name__, "sympy" in sys.modules)
    sys.stdout.flush()
    os._exit(0)
os.wait()
inside = []
def network(x):
    inside.append(torch.compiler.is_compiling())
    inside.append(is_compiled())
    return layer(x)
compiled, image = torch.compile(layer, backend="eager"), torch.ones(1, 2)
torch.compile(network, backend="eager")(image)
same = torch.equal(compiled(image), layer(image))
print(same, inside, isinstance(compiled, OptimizedModule), isinstance(layer, OptimizedModule))
print(type(sys.modules["torch._dynamo"]) is type(sys), torch._dynamo.utils.is_compile_supported("cpu"))
postpone_imports()
print(type(sys.modules["torch._dynamo"]) is type(sys))
"""


def test_the_compiler_is_imported_to_compile_and_not_before() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_COMPILER], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.splitlines() == [
        "True False False False",
        "True True True",
        "True [True, False] True False",
        "True True",
        "True",
    ], done.stderr


WITHOUT_SIGNAL = """
import sys
from raylight.imports import postpone_imports
postpone_imports()
import torchmetrics
print("scipy.stats" in sys.modules)
import scipy.signal
import scipy.signal.windows
print(scipy.signal.hamming(3).tolist() == scipy.signal.windows.hamming(3).tolist(), type(scipy.signal) is type(sys))
print(scipy.signal.find_peaks([0, 2, 0])[0].tolist(), "scipy.stats" in sys.modules)
"""


def test_signal_processing_is_imported_to_be_used_and_not_before() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_SIGNAL], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.splitlines() == ["False", "True True", "[1] True"], done.stderr
