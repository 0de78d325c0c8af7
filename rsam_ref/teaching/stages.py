"""How a step is told: its stages one after the other, with their equations and a sentence each."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rsam_ref.teaching.step import WorkedStep


@dataclass(frozen=True)
class Equation:
    """A line of the update rule, as TeX for the figures and as MathML for a page."""

    tex: str
    mathml: str


@dataclass(frozen=True)
class Stage:
    """A part of a step, as it is told on one slide."""

    name: str
    title: str
    text: str
    equations: tuple[Equation, ...]
    symbols: tuple[str, ...]
    """What it finds, by its symbol in `quantities`."""


def _radius(v: str, mathml: str) -> Equation:
    """eps = rho v / (||v|| + 1e-12)."""
    tiny = "<msup><mn>10</mn><mrow><mo>−</mo><mn>12</mn></mrow></msup>"
    bar = '<mo stretchy="false">‖</mo>'
    below = f"<mrow>{bar}{mathml}{bar}<mo>+</mo>{tiny}</mrow>"
    return Equation(
        rf"\varepsilon = \rho\,\frac{{{v}}}{{\Vert {v} \Vert + 10^{{-12}}}}",
        f"<mi>ε</mi><mo>=</mo><mi>ρ</mi><mfrac>{mathml}{below}</mfrac>",
    )


def _gradient(symbol: str, mathml: str, at: str, at_mathml: str) -> Equation:
    of = '<mo>∇</mo><mi>L</mi><mo stretchy="false">(</mo>{}<mo stretchy="false">)</mo>'
    return Equation(rf"{symbol} = \nabla L({at})", f"{mathml}<mo>=</mo>" + of.format(at_mathml))


_G0 = "<msub><mi>g</mi><mn>0</mn></msub>"
_DESCENT = Equation(
    r"w^\prime = w - \mathrm{lr}\,g",
    "<msup><mi>w</mi><mo>′</mo></msup><mo>=</mo><mi>w</mi><mo>−</mo><mi>lr</mi>"
    "<mspace width='.15em'></mspace><mi>g</mi>",
)
_DRAW = Equation(r"D = \sigma\,s\,z", "<mi>D</mi><mo>=</mo><mi>σ</mi><mi>s</mi><mi>z</mi>")
_ASCENT = Equation(
    r"a = \lambda\,g_0 + D", f"<mi>a</mi><mo>=</mo><mi>λ</mi>{_G0}<mo>+</mo><mi>D</mi>"
)
_PLUS_D = "<mi>w</mi><mo>+</mo><mi>D</mi>"
_PLUS_EPS = "<mi>w</mi><mo>+</mo><mi>ε</mi>"


def stages_of(step: WorkedStep) -> list[Stage]:
    """The step in the order in which it is built up; the numbers told are this step's own."""
    trace = step.trace
    first, second = float(trace.loss), float(trace.adversarial_loss)
    rsam = step.algorithm == "rsam"
    weights = Stage(
        "weights",
        "The weights",
        "The loss around the weights w. The step takes two gradients of it, and knows nothing "
        "else.",
        (),
        ("w",),
    )
    descent = Stage(
        "descent",
        "Carried back to w",
        f"The second gradient is taken at w + eps, where the loss is {second:.3f}. "
        "It moves the weights from w.",
        (_gradient("g", "<mi>g</mi>", r"w + \varepsilon", _PLUS_EPS), _DESCENT),
        ("g", "w'"),
    )
    if not rsam:
        return [
            weights,
            Stage(
                "gradient",
                "The gradient at w",
                f"The first gradient is taken at w, where the loss is {first:.3f}: "
                "there the loss rises fastest.",
                (_gradient("g_0", _G0, "w", "<mi>w</mi>"),),
                ("g0",),
            ),
            Stage(
                "radius",
                "Brought to the radius",
                "Only the direction of the gradient is kept. The perturbation eps has the "
                "length rho.",
                (_radius("g_0", _G0),),
                ("eps",),
            ),
            descent,
        ]
    return [
        weights,
        Stage(
            "draw",
            "A draw around them",
            "Every weight is moved at random, in proportion to the norm s of its filter.",
            (_DRAW,),
            ("D",),
        ),
        Stage(
            "gradient",
            "The gradient there",
            f"The first gradient is taken at w + D, where the loss is {first:.3f}. "
            "It is weighed by lam.",
            (_gradient("g_0", _G0, "w + D", _PLUS_D),),
            ("g0",),
        ),
        Stage(
            "ascent",
            "The ascent direction",
            "Gradient and draw together, from w: the direction of the ascent.",
            (_ASCENT,),
            ("a",),
        ),
        Stage(
            "radius",
            "Brought to the radius",
            "Only the direction of a is kept. The perturbation eps has the length rho, from w "
            "and not from w + D.",
            (_radius("a", "<mi>a</mi>"),),
            ("eps",),
        ),
        descent,
    ]


def slide_names(step: WorkedStep) -> list[str]:
    """What the files of the slides are called, in the order of the stages."""
    names = [stage.name for stage in stages_of(step)]
    return [f"{step.algorithm}-{i}-{name}.svg" for i, name in enumerate(names, start=1)]


def typeset(text: str) -> str:
    """The names of the code as the symbols of the equations: eps is ε, g0 is g₀."""
    for name, symbol in SYMBOLS:
        text = re.sub(rf"(?<![\w']){name}(?!\w)", symbol, text)
    text = re.sub(r"(?<=\bw) \+ ", NO_BREAK + "+" + NO_BREAK, text)
    return text.replace("||", "‖").replace(" - ", " − ")


NO_BREAK = "\N{NO-BREAK SPACE}"
SYMBOLS = [
    ("w'", "w′"),
    ("g0", "g₀"),
    ("eps", "ε"),
    ("rho", "ρ"),
    ("sigma", "σ"),
    ("lam", "λ"),
]
