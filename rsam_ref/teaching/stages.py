"""How a step is told: its stages one after the other, with their equations and a sentence each."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rsam_ref.algorithms.sam import norm
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


def _length(v: str, mathml: str) -> Equation:
    """||v|| + 1e-12."""
    tiny = "<msup><mn>10</mn><mrow><mo>−</mo><mn>12</mn></mrow></msup>"
    bar = '<mo stretchy="false">‖</mo>'
    below = f"<mrow>{bar}{mathml}{bar}<mo>+</mo>{tiny}</mrow>"
    return Equation(rf"\Vert {v} \Vert + 10^{{-12}}", below)


def _radius(above: Equation, below: Equation, start: Equation, rho: Equation) -> Equation:
    """eps = rho above / (||below|| + 1e-12); `start` says how the line begins."""
    length = _length(below.tex, below.mathml)
    return Equation(
        rf"{start.tex} {rho.tex}\,\frac{{{above.tex}}}{{{length.tex}}}",
        f"{start.mathml}{rho.mathml}<mfrac>{above.mathml}{length.mathml}</mfrac>",
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


_EPS_IS = Equation(r"\varepsilon =", "<mi>ε</mi><mo>=</mo>")
_EPS_GROWS = Equation(r"\varepsilon \,{+}{=}\,", "<mi>ε</mi><mo>+=</mo>")
_RHO = Equation(r"\rho", "<mi>ρ</mi>")
_RHO_K = Equation(r"\frac{\rho}{k}", "<mfrac><mi>ρ</mi><mi>k</mi></mfrac>")
_A = Equation("a", "<mi>a</mi>")
_FIRST = Equation("g_0", _G0)
_NEXT = Equation("g_i", "<msub><mi>g</mi><mi>i</mi></msub>")
_SCALED = Equation(r"T\,g_0", f"<mrow><mi>T</mi>{_G0}</mrow>")
_ADAPTED = Equation(
    r"a = T^2\,g_0",
    f"<mi>a</mi><mo>=</mo><msup><mi>T</mi><mn>2</mn></msup>{_G0}",
)


def stages_of(step: WorkedStep) -> list[Stage]:
    """The step in the order in which it is built up; the numbers told are this step's own."""
    middle = {"rsam": _rsam, "sam": _sam, "asam": _asam, "k-step": _k_step}
    second = float(step.trace.adversarial_loss)
    return [
        Stage(
            "weights",
            "The weights",
            "The loss around the weights w. The step takes "
            f"{_count(step.ascent_steps + 1)} gradients of it, and knows nothing else.",
            (),
            ("w",),
        ),
        *middle["k-step" if step.ascent_steps > 1 else step.algorithm](step),
        Stage(
            "descent",
            "Carried back to w",
            f"The {'last' if step.ascent_steps > 1 else 'second'} gradient is taken at w + eps, "
            f"where the loss is {second:.3f}. It moves the weights from w.",
            (_gradient("g", "<mi>g</mi>", r"w + \varepsilon", _PLUS_EPS), _DESCENT),
            ("g", "w'"),
        ),
    ]


def _count(number: int) -> str:
    return {2: "two", 3: "three", 4: "four"}.get(number, str(number))


def _at_w(step: WorkedStep) -> Stage:
    return Stage(
        "gradient",
        "The gradient at w",
        f"The first gradient is taken at w, where the loss is {float(step.trace.loss):.3f}: "
        "there the loss rises fastest.",
        (_gradient("g_0", _G0, "w", "<mi>w</mi>"),),
        ("g0",),
    )


def _sam(step: WorkedStep) -> list[Stage]:
    return [
        _at_w(step),
        Stage(
            "radius",
            "Brought to the radius",
            "Only the direction of the gradient is kept. The perturbation eps has the length rho.",
            (_radius(_FIRST, _FIRST, _EPS_IS, _RHO),),
            ("eps",),
        ),
    ]


def _k_step(step: WorkedStep) -> list[Stage]:
    k = step.ascent_steps
    return [
        _at_w(step),
        Stage(
            "radius",
            "The first step up",
            f"The ascent has {k} steps of the length rho / k. The first one follows the gradient "
            "at w.",
            (_radius(_FIRST, _FIRST, _EPS_IS, _RHO_K),),
            (),
        ),
        Stage(
            "climb",
            "Further up",
            f"{_count(k - 1).capitalize() if k > 2 else 'One'} more, each along the gradient at "
            f"the place reached. In all eps has the length {float(norm(step.eps)):.3f}, at most "
            "rho.",
            (
                _gradient("g_i", _NEXT.mathml, r"w + \varepsilon", _PLUS_EPS),
                _radius(_NEXT, _NEXT, _EPS_GROWS, _RHO_K),
            ),
            ("eps",),
        ),
    ]


def _asam(step: WorkedStep) -> list[Stage]:
    return [
        _at_w(step),
        Stage(
            "ascent",
            "As large as the weights",
            "A large weight may move further than a small one: the gradient is scaled twice by "
            "T = |w| + eta.",
            (_ADAPTED,),
            ("a",),
        ),
        Stage(
            "radius",
            "Brought to the radius",
            "The perturbation eps ends on an ellipse, whose axes are rho times the weights.",
            (_radius(_A, _SCALED, _EPS_IS, _RHO),),
            ("eps",),
        ),
    ]


def _rsam(step: WorkedStep) -> list[Stage]:
    return [
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
            "The first gradient is taken at w + D, where the loss is "
            f"{float(step.trace.loss):.3f}. It is weighed by lam.",
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
            (_radius(_A, _A, _EPS_IS, _RHO),),
            ("eps",),
        ),
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
    return text.replace("||", "‖").replace(" - ", " − ").replace("T^2", "T²")


NO_BREAK = "\N{NO-BREAK SPACE}"
SYMBOLS = [
    ("w'", "w′"),
    ("g0", "g₀"),
    ("eps", "ε"),
    ("rho", "ρ"),
    ("sigma", "σ"),
    ("lam", "λ"),
    ("eta", "η"),
]
