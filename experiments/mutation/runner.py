"""Runs tests in processes forked from one that holds the heavy libraries, and sees which lines each test runs.

A child imports raylight afresh from the copied tree, so that it has the fault that the tree has at this moment, and
so have the processes that its tests start (``PYTHONPATH``).
"""

import contextlib
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Not raylight, and not wandb, whose temporary folder would be removed by the first child that ends.
HEAVY = (
    "httpx hydra hypothesis matplotlib.pyplot optuna pandas PIL.Image pyarrow.parquet pytorch_lightning ray.data rich.table "
    "safetensors.torch scipy.stats sklearn.linear_model sklearn.metrics sklearn.model_selection starlette.testclient "
    "statsmodels.api torch torchmetrics torchvision torchvision.transforms.v2 typer.testing"
)


def preload() -> None:
    """Import what every child needs, without running any of it: a process whose OpenMP has threads can't be forked."""
    for name in HEAVY.split():
        importlib.import_module(name)


def in_child(work: Callable[[], int], tree: Path, log: Path, seconds: float) -> int | None:
    """The exit code of ``work``, done in a child that stands in ``tree``; None when it was stopped after ``seconds``."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.setsid()
            file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, 1)
            os.dup2(file, 2)
            os.chdir(tree)
            os.environ["PYTHONPATH"] = f"{tree / 'src'}{os.pathsep}{tree}"
            sys.path[:0] = [str(tree / "src"), str(tree)]
            for name in [name for name in sys.modules if name.partition(".")[0] == "experiments"]:
                del sys.modules[name]
            code = work()
        except Exception:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            _stop_group(child)
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    _stop_group(child)
    os.waitpid(child, 0)
    return None


def _stop_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def busy() -> float:
    """Seconds of the processor that this process and those that it has waited for took."""
    return sum(os.times()[:4])


class Observer:
    """A pytest plugin: the seconds and shared fixtures of each test, and the lines that each test and fixture runs.

    Seconds are the processor's, of the test and the processes that it waits for: the load of the machine chooses no tests.
    """

    def __init__(self, coverage: Any) -> None:
        self.coverage = coverage
        self.tests: dict[str, dict[str, Any]] = {}
        self.shared: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """What runs from here on belongs to the test."""
        self.tests[item.nodeid] = {"seconds": 0.0, "passed": False, "fixtures": list(item.fixturenames)}
        self.context = item.nodeid
        self.coverage.switch_context(self.context)
        begin = busy()
        try:
            return (yield)
        finally:
            self.tests[item.nodeid]["seconds"] = busy() - begin

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[Any]:
        """What a shared fixture runs belongs to all tests that use it."""
        if fixturedef.scope == "function":
            return (yield)
        outer, self.context = self.context, f"fixture {fixturedef.argname}"
        self.coverage.switch_context(self.context)
        begin = busy()
        try:
            return (yield)
        finally:
            self.shared[fixturedef.argname] = busy() - begin
            self.context = outer
            self.coverage.switch_context(outer)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Whether it passed."""
        test = self.tests[report.nodeid]
        if report.when == "call":
            test["passed"] = report.passed
        elif report.failed:
            test["passed"] = False


class Chosen:
    """A pytest plugin: only these tests, in this order."""

    def __init__(self, tests: list[str]) -> None:
        self.tests = tests

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Choose and arrange."""
        found = {item.nodeid: item for item in items}
        items[:] = [found[test] for test in self.tests]  # a test that is gone fails the run: KeyError


OPTIONS = ["-o", "addopts=", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly", "--tb=line"]


def observe(file: str, out: Path) -> int:
    """Run the tests of one file and write what :class:`Observer` saw."""
    from coverage import Coverage

    coverage = Coverage(data_file=None, config_file=False, source=["src/raylight"])
    coverage.start()
    observer = Observer(coverage)
    code = pytest.main([*OPTIONS, "--timeout=300", file], plugins=[observer])
    coverage.stop()
    data = coverage.get_data()
    lines: dict[str, dict[str, list[int]]] = {}
    for measured in data.measured_files():
        for line, contexts in data.contexts_by_lineno(measured).items():
            for context in contexts:
                lines.setdefault(context, {}).setdefault(str(Path(measured).relative_to(Path.cwd())), []).append(line)
    for test in observer.tests.values():  # alone, it would wait for its shared fixtures, too
        test["seconds"] = max(test["seconds"], sum(observer.shared.get(name, 0.0) for name in test["fixtures"]))
    out.write_text(json.dumps({"tests": observer.tests, "lines": lines}))
    return int(code)


def judge(tests: list[str]) -> int:
    """Run these tests until one fails; pytest's exit code."""
    sys.dont_write_bytecode = True  # what is compiled with a fault must not be found by the next
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
    return int(pytest.main([*OPTIONS, "-x", "--timeout=120", *files], plugins=[Chosen(tests)]))
