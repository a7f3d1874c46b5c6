"""``raylight export``: one file that takes pixels and gives calibrated probabilities, for other programs.

Resizing, normalisation, network, softmax and temperature are inside; decoding stays outside, since no format supports it. An
export is done once the file's own runtime reproduces the run's resizing and its probabilities.
"""

import importlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from raylight.errors import ConfigError, RaylightError, RunError, did_you_mean, first_line
from raylight.installation import install_command
from raylight.report.facts import RunFacts
from raylight.serving.exports.check_images import CheckImages, check_images, resized_in_one_step
from raylight.serving.exports.formats import FORMATS, Export, Runtime
from raylight.serving.exports.int8 import to_int8
from raylight.serving.exports.network import ServedNetwork
from raylight.serving.exports.web_runtime import cache_folder, web_runtime
from raylight.serving.predictor import Predictor
from raylight.storage.atomic import atomic_file, check_output

TOLERANCE = 1e-4
"""Largest difference of a probability from the run's own in float32, for the same pixels."""

LEVELS = 1
"""Largest difference of a resized pixel from the run's own resizing of the same image, of 255."""

REDUCED = {
    True: "it scales large JPEG files while it decodes them, and upsamples their colour more cheaply",
    False: "it reduces large files by a whole factor before it resizes them",
}
"""What a run does before it resizes a JPEG file, and any other; an export takes whole images in one step."""


def export_run(
    run: Path,
    format: str,  # noqa: A002 - the command's option
    out: Path | None,
    *,
    prepared: bool = False,
    runtime: Path | None = None,
    precision: str | None = None,
) -> int:
    """Write a run's model into one file and check it against the run.

    The file's input ``images`` is uint8[batch, height, width, 3], RGB, of any size; its outputs are those of
    ``ServedNetwork``. Metadata: ``class_names``, ``positive_class``, ``threshold``, ``abstain`` (where the run abstains: the
    confidence from which on it answers), ``unknown`` (where the run refuses unknown images: the largest distance of others),
    ``temperature`` (which is applied already), ``mean`` and ``std``, ``size``, ``resize``, ``resize_size``, ``interpolation``,
    ``fill``, ``prepared``, ``run``, ``title``, ``accuracy`` (on test) and ``medical``.

    Args:
        run: a finished run's folder.
        format: ``onnx``, ``torch_export`` or ``web``.
        out: the file; ``None`` writes ``model.onnx``, ``model.pt2`` or ``model.html`` into the run folder.
        prepared: the images are already decoded and resized to the model's size, and aren't resized again.
        runtime: folder of ONNX Runtime Web, for ``web``; ``None`` downloads it.
        precision: ``int8`` makes a file for processors with int8 instructions, certified on validation, instead of ``fp32``.

    Returns:
        0.

    Raises:
        RaylightError: the run can't be used, there is no such format, a package is missing, the network has something
            in it that the format can't hold, or the file resizes otherwise than the run, or gives other probabilities for
            the same pixels. Then there is no file, and one of that name from before is left alone.
        OSError: the file can't be written.
    """
    if format not in FORMATS:
        hint = did_you_mean(format, FORMATS)
        raise ConfigError([f"--format: there is no format {format!r}{hint}; the formats are {', '.join(FORMATS)}"])
    if format == "web" and prepared:
        raise ConfigError(["--prepared: people drop pictures of any size on a page; leave it out with --format web"])
    if format != "web" and runtime is not None:
        raise ConfigError(["--runtime: only a page needs ONNX Runtime Web; leave it out, or add --format web"])
    if precision not in (None, "fp32", "int8") or (precision == "int8" and format != "onnx"):
        raise ConfigError(
            [f"--precision: files are in fp32, with --format onnx also in int8, not in {precision!r} as {format}"]
        )
    kind = FORMATS[format]
    _require(kind.modules, format)
    predictor = Predictor.open(run, precision="fp32")
    path = out or predictor.run / f"model{kind.suffix}"
    if out is None:
        check_output("RUN", path, is_folder=False, remedy="name a file elsewhere: --out FILE")
    web = web_runtime(runtime, cache_folder()) if format == "web" else None
    images = check_images(predictor)
    served = ServedNetwork(predictor, None if prepared else images.resizer).eval()
    export = Export(served, _metadata(predictor, prepared), web)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, kind.suffix) as temporary:  # the ending is kept: torch.export looks at it
        try:
            with _silent():
                kind.write(export, temporary)
                opened = kind.open(temporary)
                found = (
                    _checked_prepared(opened, images, predictor) if prepared else _checked(opened, images, predictor)
                )
                if precision == "int8":
                    found = f"{found}. Then {to_int8(temporary, predictor, prepared)}"
        except RaylightError:
            raise
        except Exception as error:  # exporters and runtimes refuse with exceptions of every kind
            raise RaylightError(
                f"{predictor.config.model.name} can't be exported as {format} ({type(error).__name__}: {first_line(error)})"
            ) from error
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB; {found}")  # noqa: T201 - the command's result
    return 0


def _checked_prepared(opened: Runtime, images: CheckImages, predictor: Predictor) -> str:
    """Compare on prepared images; what was found, in words."""
    pixels, words = images.prepared, images.words(len(images.prepared))
    # One image and many: a batch size that exporting took for a constant shows here.
    given = np.concatenate([opened(part)["probabilities"] for part in (pixels[:1], pixels[1:])])
    apart = _apart(given, predictor.probabilities(pixels), words)
    return f"probabilities within {apart:.1e} of the run's on {words}"


def _checked(opened: Runtime, images: CheckImages, predictor: Predictor) -> str:
    """Compare on images of their original size: resizing, then probabilities for the same pixels; in words."""
    spec, words = predictor.preprocessing.decode_spec, images.words(len(images.originals))
    levels, apart, as_predicted, reduced = 0, 0.0, [], set[str]()
    for position, original in images.originals:
        found = opened(
            np.stack([original, original[::-1]])
        )  # two, since a batch size, too, may be taken for a constant
        wanted = np.stack([resized_in_one_step(image, spec, images.resizer) for image in (original, original[::-1])])
        levels = max(levels, int(np.abs(found["pixels"].astype(int) - wanted).max()))
        apart = max(apart, _apart(found["probabilities"], predictor.probabilities(found["pixels"]), words))
        single = opened(original[None])["probabilities"]
        as_decoded = images.prepared[position]
        as_predicted.append(float(np.abs(single - predictor.probabilities(as_decoded[None])).max()))
        if images.real and int(np.abs(found["pixels"][0].astype(int) - as_decoded).max()) > LEVELS:
            reduced.add(REDUCED[images.jpeg[position]])
    if levels > LEVELS:
        raise RaylightError(
            f"The file resizes otherwise than the run in one step, by up to {levels} of 255 on {words}; {LEVELS} is allowed. "
            "It was not kept."
        )
    result = (
        f"on {words}: resizing within {levels} of 255 of the run's in one step, probabilities within {apart:.1e} for the same "
        "pixels"
    )
    if images.real:
        result += (
            f". As the run decodes these files, probabilities differ by {np.median(as_predicted):.1e} (median) to "
            f"{max(as_predicted):.1e}{': ' if reduced else ''}{' and '.join(sorted(reduced))}"
        )
    return result


def _apart(given: Float[np.ndarray, "image class"], wanted: Float[np.ndarray, "image class"], words: str) -> float:
    """The largest difference of probabilities.

    Raises:
        RaylightError: it is more than ``TOLERANCE``.
    """
    difference = float(np.abs(given - wanted).max())
    if not difference <= TOLERANCE:
        raise RaylightError(
            f"The file gives other probabilities than the run, by up to {difference:.2g} on {words}; "
            f"{TOLERANCE:.0e} is allowed. It was not kept."
        )
    return difference


def _require(modules: tuple[str, ...], format: str) -> None:  # noqa: A002
    missing = []
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError:
            missing.append(module)
    if missing:
        raise RaylightError(
            f"--format={format} needs {', '.join(missing)}, which isn't here: {install_command('export')}"
        )


def _metadata(predictor: Predictor, prepared: bool) -> dict[str, Any]:
    """What a user of the file must know besides its weights, as JSON values."""
    preprocessing, facts = predictor.preprocessing, RunFacts(predictor.run)
    try:
        accuracy = facts.measured().get("accuracy")
    except RunError:  # a model can be exported without its results
        accuracy = None
    return {
        "class_names": list(predictor.class_names),
        "positive_class": predictor.positive_class,
        "threshold": predictor.threshold,
        **({"abstain": predictor.confidence} if predictor.abstains else {}),
        **({"unknown": predictor.familiarity.limit} if predictor.familiarity else {}),
        "temperature": predictor.temperature,
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "size": preprocessing.size,
        "resize": preprocessing.resize,
        "resize_size": preprocessing.decode_spec.shorter_side,
        "interpolation": preprocessing.interpolation,
        "fill": preprocessing.decode_spec.fill,
        "prepared": prepared,
        "run": predictor.run.path.name,
        "title": facts.title,
        "accuracy": accuracy and {name: getattr(accuracy, name) for name in ("value", "low", "high", "n")},
        "medical": predictor.config.data.medical,
    }


@contextmanager
def _silent() -> Iterator[None]:
    """Exporters print a lot; errors are raised."""
    import io
    import warnings

    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(io.StringIO()))
        stack.enter_context(redirect_stderr(io.StringIO()))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield
