"""Errors for users. Each message names the thing, the value, what was expected, and the remedy."""

from collections.abc import Iterable, Sequence


class RaylightError(Exception):
    """An error that ends a command with one sentence instead of a traceback.

    Attributes:
        exit_code: what the command exits with.
    """

    exit_code = 1


class ConfigError(RaylightError):
    """A config that can't be run; holds every problem that was found, not just the first."""

    exit_code = 2

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        heading = f"{count} problem{'s' if count != 1 else ''} in the configuration:"
        super().__init__("\n".join([heading, *(f"  - {problem}" for problem in self.problems)]))

    def __reduce__(self) -> tuple[type["ConfigError"], tuple[tuple[str, ...]]]:
        return type(self), (self.problems,)


class DataError(RaylightError):
    """Images that are missing, unreadable, too few or contradictory."""

    exit_code = 2


class WeightsError(RaylightError):
    """Model weights that are missing or don't fit the network."""

    exit_code = 2


class RunError(RaylightError):
    """A run folder that is incomplete or not a run folder, or whose training broke."""


class BadImageError(RaylightError):
    """A file that isn't a usable image; the message is the reason, as written to ``rejected.csv``."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says, without its indentation, else its kind; libraries add pages to theirs."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that a mistyped name was probably meant to be; of dotted ones, the last part alone may tell.

    >>> nearest("trainer.max_epoch", ["trainer.max_epochs", "seed"]), nearest("sead", ["a.seed"]), nearest("x", ["seed"])
    ('trainer.max_epochs', 'a.seed', None)
    """
    import difflib  # a wrong name is rare, and each command starts with this file

    names = list(candidates)
    if found := difflib.get_close_matches(name, names, n=1, cutoff=0.6):
        return found[0]
    by_last = {candidate.rsplit(".", 1)[-1]: candidate for candidate in names}
    found = difflib.get_close_matches(name.rsplit(".", 1)[-1], list(by_last), n=1, cutoff=0.75)
    return by_last[found[0]] if found else None


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """The end of a sentence on a mistyped name, such as ``; did you mean 'seed'?``; empty where no candidate is near."""
    found = nearest(name, candidates)
    return f"; did you mean {found!r}?" if found else ""
