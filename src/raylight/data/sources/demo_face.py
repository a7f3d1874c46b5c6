"""The face of a cat or a dog as flat shapes, in units of the head's radius.

The classes differ here and nowhere else: ears, skull, muzzle, nose, pupils and whiskers are drawn from distributions per class.
"""

from dataclasses import dataclass

import numpy as np

from raylight.data.sources.demo_shapes import (
    Colour,
    Points,
    Shape,
    blend,
    curve,
    ellipse,
    rotate,
    shade,
    vary,
)

FURS: tuple[Colour, ...] = (
    (206, 124, 58),  # ginger
    (206, 172, 126),  # cream
    (128, 128, 136),  # blue-grey
    (70, 62, 62),  # near black
    (136, 92, 60),  # brown
    (196, 192, 188),  # silver
    (172, 140, 100),  # fawn
    (168, 110, 84),  # chestnut
    (96, 108, 124),  # slate
    (176, 146, 160),  # lilac
)
IRISES: tuple[Colour, ...] = ((112, 168, 84), (196, 160, 60), (88, 140, 190), (116, 78, 44), (80, 150, 140))
NOSES: tuple[Colour, ...] = ((60, 44, 44), (206, 134, 138), (130, 90, 80), (236, 180, 180))
TONGUE: Colour = (226, 110, 124)


@dataclass(frozen=True)
class FaceFeatures:
    """The shape of one face, in units of the head's radius.

    Attributes:
        ears: ``pointed``, ``folded`` or ``hanging``.
        ear_length: from the root of an ear to its tip.
        skull: half width and half height of the head.
        muzzle: half width of the muzzle.
        nose: half width of the nose.
        pupil: width of the pupil over its height.
        eye: radius of an eye.
        whiskers: length; 0 for none.
    """

    ears: str
    ear_length: float
    skull: tuple[float, float]
    muzzle: float
    nose: float
    pupil: float
    eye: float
    whiskers: float


def cat(rng: np.random.Generator) -> FaceFeatures:
    """Draws the features of one cat."""
    return FaceFeatures(
        ears=str(rng.choice(["pointed", "folded", "hanging"], p=[0.96, 0.03, 0.01])),
        ear_length=rng.uniform(0.6, 1.0),
        skull=(rng.normal(1.03, 0.07), rng.normal(0.90, 0.07)),
        muzzle=rng.normal(0.38, 0.07),
        nose=rng.normal(0.12, 0.03),
        pupil=rng.uniform(0.25, 0.75),
        eye=rng.normal(0.24, 0.03),
        whiskers=rng.uniform(0.6, 1.1) if rng.random() < 0.85 else 0.0,
    )


def dog(rng: np.random.Generator) -> FaceFeatures:
    """Draws the features of one dog."""
    return FaceFeatures(
        ears=str(rng.choice(["pointed", "folded", "hanging"], p=[0.03, 0.05, 0.92])),
        ear_length=rng.uniform(0.7, 1.2),
        skull=(rng.normal(0.90, 0.07), rng.normal(1.0, 0.07)),
        muzzle=rng.normal(0.54, 0.07),
        nose=rng.normal(0.21, 0.035),
        pupil=rng.uniform(0.75, 1.05),
        eye=rng.normal(0.20, 0.03),
        whiskers=rng.uniform(0.3, 0.7) if rng.random() < 0.35 else 0.0,
    )


def face_shapes(features: FaceFeatures, rng: np.random.Generator) -> list[Shape]:
    """Composes a face of flat shapes.

    Args:
        features: the features of the face.
        rng: source of colours, pose and expression.

    Returns:
        Shapes from back to front, in units of the head's radius around (0, 0).
    """
    fur = vary(FURS[rng.integers(len(FURS))], rng, 14)
    second = vary(FURS[rng.integers(len(FURS))], rng, 14)
    outline = shade(fur, rng.uniform(0.45, 0.75))
    turned = np.array([rng.uniform(-0.22, 0.22), rng.uniform(-0.08, 0.12)])
    hanging = features.ears == "hanging"
    draw_ears = _hanging_ears if hanging else _standing_ears
    ears = draw_ears(features, fur if rng.random() < 0.6 else second, outline, rng)
    skull = [Shape(ellipse(0, 0, *features.skull, power=2.3), fur, outline), *_coat(features, second, rng)]
    muzzle_fur = blend(fur, (250, 244, 236) if rng.random() < 0.5 else (40, 34, 34), rng.uniform(0.15, 0.6))
    return [
        *(skull + ears if hanging else ears + skull),
        *_eyes(features, turned, outline, rng),
        *_muzzle(features, turned, muzzle_fur, outline, rng),
    ]


def _standing_ears(features: FaceFeatures, fur: Colour, outline: Colour, rng: np.random.Generator) -> list[Shape]:
    half_width, half_height = features.skull
    lining = blend(fur, (236, 160, 160) if rng.random() < 0.5 else (84, 52, 56), 0.5)
    shapes = []
    for side in (-1, 1):
        root = np.array([side * half_width * 0.62, -half_height * 0.62])
        lean = rng.uniform(0.1, 0.42) * side
        tip = root + features.ear_length * np.array([np.sin(lean), -np.cos(lean)])
        near = np.array([side * half_width * 0.12, -half_height * 0.86])
        far = np.array([side * half_width * 0.95, -half_height * 0.22])
        if features.ears == "pointed":
            ear = np.concatenate([curve(near, tip, 0.10 * side), curve(tip, far, 0.10 * side)])
            inner = ear.mean(0) + (ear - ear.mean(0)) * 0.58
            shapes += [Shape(ear, fur, outline), Shape(inner, lining)]
            continue
        # The ear bends half way up, and its tip hangs forward over the lower half.
        left, right = (near + tip) / 2, (far + tip) / 2
        drop = (left + right) / 2 + np.array([side * 0.22, 0.42 * features.ear_length])
        flap = np.concatenate([curve(left, drop, 0.12 * side), curve(drop, right, 0.12 * side)])
        shapes += [
            Shape(np.stack([near, left, right, far]), fur, outline),
            Shape(flap, fur, outline),
        ]
    return shapes


def _hanging_ears(features: FaceFeatures, fur: Colour, outline: Colour, rng: np.random.Generator) -> list[Shape]:
    half_width, half_height = features.skull
    angle = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    shapes = []
    for side in (-1, 1):
        breadth = rng.uniform(0.24, 0.36)
        length = features.ear_length * 0.72
        ear = np.stack([breadth * np.sin(angle) * (1 - 0.35 * np.cos(angle)), -length * np.cos(angle)], axis=1)
        root = np.array([side * half_width * 0.82, -half_height * 0.62])
        swing = -side * rng.uniform(0.05, 0.5)
        shapes.append(Shape(root + rotate(ear + np.array([0.0, length * 0.8]), swing), fur, outline))
    return shapes


def _coat(features: FaceFeatures, colour: Colour, rng: np.random.Generator) -> list[Shape]:
    half_width, half_height = features.skull
    style = rng.random()
    if style < 0.3:  # a patch over one eye
        side = int(rng.choice([-1, 1]))
        tilt = rng.uniform(-1, 1)
        return [Shape(ellipse(side * half_width * 0.45, -half_height * 0.2, 0.34, 0.38, tilt=tilt), colour)]
    if style < 0.5:  # a blaze between the eyes
        return [Shape(ellipse(0, -half_height * 0.45, rng.uniform(0.1, 0.2), half_height * 0.48), colour)]
    if style < 0.7:  # stripes on the brow
        return [Shape(ellipse(x, -half_height * 0.68, 0.05, 0.2, tilt=-x * 0.8), colour) for x in (-0.28, 0.0, 0.28)]
    return []


def _eyes(features: FaceFeatures, turned: Points, outline: Colour, rng: np.random.Generator) -> list[Shape]:
    iris = vary(IRISES[rng.integers(len(IRISES))], rng, 12)
    apart = features.skull[0] * rng.uniform(0.38, 0.46)
    openness = rng.uniform(0.72, 1.0)
    glance = np.array([rng.uniform(-0.05, 0.05), rng.uniform(-0.03, 0.05)])
    asleep = rng.random() < 0.06
    shapes = []
    for side in (-1, 1):
        eye = turned + np.array([side * apart, -0.14])
        if asleep:
            angle = np.linspace(0.15 * np.pi, 0.85 * np.pi, 12)
            lid = eye + features.eye * np.stack([np.cos(angle), 0.6 * np.sin(angle)], axis=1)
            shapes.append(Shape(lid, outline, line=1.6))
            continue
        height = features.eye * openness
        x, y = eye + glance
        shapes += [
            Shape(ellipse(eye[0], eye[1], features.eye, height, tilt=-0.25 * side), iris, outline),
            Shape(ellipse(x, y, height * 0.7 * features.pupil, height * 0.82), (24, 20, 24)),
            Shape(ellipse(x - 0.06, y - 0.08, 0.045, 0.045), (252, 252, 252)),
        ]
    return shapes


def _muzzle(
    features: FaceFeatures, turned: Points, fur: Colour, outline: Colour, rng: np.random.Generator
) -> list[Shape]:
    x, y = turned * np.array([1.5, 1.0]) + np.array([0.0, 0.40 * features.skull[1]])
    ink = shade(outline, 0.6)
    shapes = []
    if rng.random() < 0.25:
        shapes.append(Shape(ellipse(x, y + features.muzzle * 0.85, 0.13, 0.2), TONGUE, ink))
    shapes.append(Shape(ellipse(x, y, features.muzzle, features.muzzle * 0.8, power=2.2), fur))
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    narrowing = 1 - 0.35 * np.sin(angle)  # wide above, pointed below
    top, lip = y - features.muzzle * 0.35, y + features.muzzle * 0.3
    nose = np.stack([x + features.nose * np.cos(angle) * narrowing, top + 0.72 * features.nose * np.sin(angle)], axis=1)
    shapes.append(Shape(nose, vary(NOSES[rng.integers(len(NOSES))], rng, 10)))
    shapes.append(Shape(np.array([[x, top + features.nose * 0.7], [x, lip]]), ink, line=1.0))
    whisker_colour = (245, 242, 238) if rng.random() < 0.5 else (52, 46, 46)
    for side in (-1, 1):
        bow = np.linspace(0, np.pi * 0.8, 9)
        reach = features.muzzle * 0.45
        mouth = np.stack([x + side * reach * (1 - np.cos(bow)) / 2, lip + reach * 0.4 * np.sin(bow)], axis=1)
        shapes.append(Shape(mouth, ink, line=1.0))
        for slope in (-0.22, 0.0, 0.22):
            start = np.array([x + side * features.muzzle * 0.6, y + slope * 0.5])
            end = start + features.whiskers * np.array([side, slope + rng.uniform(-0.08, 0.08)])
            if features.whiskers:
                shapes.append(Shape(np.stack([start, end]), whisker_colour, line=0.8))
    return shapes
