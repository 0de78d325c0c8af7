"""The packages, and what is run of each: once as it comes, once with what makes it right.

Every function here gets a `Case` and returns what the package says: ``values`` (eigenvalues),
``trace``, ``ggn`` and ``fisher`` (traces), ``losses`` (of a plane; the weights at which the model
was asked are watched). It runs in a process of its own with the package's folder; ours as well.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.flatness_survey.judge import changed

Found = dict[str, Any]


@dataclass
class Case:
    """A network of PyTorch as training leaves it: in training mode, without gradients."""

    model: Any
    x: Any
    y: Any
    hessian: np.ndarray
    network: str

    def batches(self, size: int = 128) -> Any:
        """A loader that does not shuffle; of 400 samples the last of 128 is of 16."""
        from torch.utils.data import DataLoader, TensorDataset

        return DataLoader(TensorDataset(self.x, self.y), batch_size=size)

    @property
    def criterion(self) -> Any:
        from torch import nn

        return nn.CrossEntropyLoss()

    def whole(self) -> Any:
        """All samples as the one batch of a loader."""
        return self.batches(len(self.x))

    def drawn(self) -> list[list[Any]]:
        """Two filter-normalised directions by the definition, a list of tensors each."""
        import torch

        return [[_by_definition(p, torch) for p in self.model.parameters()] for _ in range(2)]


def _by_definition(p: Any, torch: Any) -> Any:
    if p.dim() < 2:
        return torch.zeros_like(p)
    rows = p.detach().flatten(1)
    z = torch.randn_like(rows)
    scale = rows.norm(dim=1, keepdim=True) / z.norm(dim=1, keepdim=True)
    return (z * scale).view_as(p)


@dataclass(frozen=True)
class Row:
    """One thing that is run."""

    package: str
    kind: str
    """plane or curvature."""
    settings: str
    """'as it comes', or what is set."""
    run: Callable[[Case], Found]
    snake: bool = False
    dtype: str = "float64"

    @property
    def evaluates(self) -> bool:
        """Whether the model is given in evaluation mode."""
        return self.settings.startswith("eval()")

    @property
    def id(self) -> str:
        return f"{self.package} {self.kind}: {self.settings}"


AS_IT_COMES = "as it comes"


# loss-landscapes


def loss_landscapes(case: Case) -> Found:
    metrics, package = import_module("loss_landscapes.metrics"), import_module("loss_landscapes")
    metric = metrics.Loss(case.criterion, case.x, case.y)
    return {"losses": package.random_plane(case.model, metric)}


def loss_landscapes_set(case: Case) -> Found:
    import torch

    metrics, package = import_module("loss_landscapes.metrics"), import_module("loss_landscapes")
    wrapper = import_module("loss_landscapes.model_interface.model_wrapper").GeneralModelWrapper
    moved = torch.nn.ParameterList([p for p in case.model.parameters() if p.dim() > 1])
    wrapped = wrapper(case.model, [moved], lambda model, x: model(x))
    metric = metrics.Loss(case.criterion, case.x, case.y)
    return {"losses": package.random_plane(wrapped, metric, deepcopy_model=True)}


# losscape


def losscape(case: Case, **more: Any) -> Found:
    create = import_module("losscape.create_landscape")
    with tempfile.TemporaryDirectory() as folder:
        more = {"train_loader_unshuffled": case.batches(), **more}
        _, _, losses = create.create_3D_losscape(
            case.model, save_only=True, output_path=folder, **more
        )
    return {"losses": losses}


def losscape_set(case: Case) -> Found:
    return losscape(
        case, directions=case.drawn(), num_points=21, train_loader_unshuffled=case.whole()
    )


# pylandscape


def pylandscape_plane(case: Case) -> Found:
    surface = import_module("pylandscape.surface").Surface(
        case.model, case.criterion, case.whole(), seed=0
    )
    return {"losses": surface.random_surface((-1.0, 1.0), 21)[2]}


def pylandscape(case: Case, **trace: Any) -> Found:
    hessian = import_module("pylandscape.hessian").Hessian(
        case.model, case.criterion, case.batches()
    )
    values, _ = hessian.compute_eigenvalues(top_n=5)
    hessian.compute_trace(**trace)
    return {"values": values, "trace": hessian.results["trace"]}


def pylandscape_set(case: Case) -> Found:
    in_float64()
    hessian = import_module("pylandscape.hessian").Hessian(case.model, case.criterion, case.whole())
    values, _ = hessian.compute_eigenvalues(n_iter=1000, tol=1e-9, top_n=5)
    hessian.compute_trace(n_iter=300, tol=0, aggregate="mean")
    return {"values": values, "trace": hessian.results["trace"]}


# loss-landscape-3d


def landscape_3d(case: Case, only_filters: bool = False) -> Found:
    package = import_module("loss_landscape_3d")
    across, up = package.generate_random_directions(case.model)
    if only_filters:
        movable = {name for name, p in case.model.named_parameters() if p.dim() > 1}
        for direction in (across, up):
            for name in set(direction) - movable:
                direction[name].zero_()
    steps = np.linspace(-1, 1, 21)
    calculator = package.LossLandscapeCalculator(case.model, case.batches(), case.criterion)
    start = {k: v.clone() for k, v in case.model.state_dict().items()}
    return {"losses": calculator.calculate(steps, steps, across, up, start)}


def landscape_3d_hessian(case: Case, **more: Any) -> Found:
    """It gives two directions and no eigenvalue: that is d^T H d, with the exact H."""
    package = import_module("loss_landscape_3d")
    more = {"dataloader": case.batches(), **more}
    pair = package.generate_hessian_directions(case.model, criterion=case.criterion, **more)[:2]
    flat = [np.concatenate([t.detach().numpy().ravel() for t in d.values()]) for d in pair]
    return {"values": [float(d @ case.hessian @ d / (d @ d)) for d in flat]}


def landscape_3d_hessian_set(case: Case) -> Found:
    return landscape_3d_hessian(case, dataloader=case.whole(), max_iter=1000, tol=1e-12)


# gradfield


def gradfield(case: Case, **grid: Any) -> Found:
    package = import_module("gradfield")
    function = package.model_loss_fn(case.model, case.criterion, case.x, case.y)
    return {"losses": package.sample_grid(function, **grid)["Z"]}


def gradfield_set(case: Case) -> Found:
    return gradfield(case, x_range=(-1.0, 1.0), y_range=(-1.0, 1.0), resolution=21)


# nngeom


def _nngeom(case: Case) -> tuple[Any, Any, Any]:
    package = import_module("nngeom")
    loss = case.criterion
    return package, package.Model(case.model, lambda m, b: loss(m(b[0]), b[1])), (case.x, case.y)


def nngeom_plane(case: Case) -> Found:
    package, model, batch = _nngeom(case)
    return {"losses": package.lossland.plane_slice_2d(model, batch, seed=0).losses}


def nngeom_plane_set(case: Case) -> Found:
    package, model, batch = _nngeom(case)
    pair = [np.concatenate([t.numpy().ravel() for t in d]) for d in case.drawn()]
    return {"losses": package.lossland.plane_slice_2d(model, batch, directions=pair).losses}


def nngeom(case: Case) -> Found:
    package, model, batch = _nngeom(case)
    spectrum = package.hessian_spectrum(model, batch, seed=0)
    return {"values": spectrum.eigenvalues[:5], "trace": spectrum.trace_estimate}


def nngeom_set(case: Case) -> Found:
    package, model, batch = _nngeom(case)
    values = package.lanczos_spectrum(model, batch, m=150, seed=0).eigenvalues
    trace = package.hutchinson_trace(model, batch, n_samples=300, seed=0)
    return {"values": values[:5], "trace": trace}


# landscaper


def landscaper_plane(case: Case, directions: list[list[Any]] | None = None) -> Found:
    package = import_module("landscaper")
    utils = import_module("landscaper.utils")
    loss = case.criterion
    found = package.LossLandscape.compute(
        case.model,
        (case.x, case.y),
        directions or utils.generate_random_orthogonal_directions(case.model, n=2),
        lambda model, data: loss(model(data[0]), data[1]).item(),
        dim=2,
        device="cpu",
    )
    return {"losses": found.loss}


def landscaper_plane_set(case: Case) -> Found:
    return landscaper_plane(case, case.drawn())


def landscaper(case: Case) -> Found:
    hessian = import_module("landscaper.hessian").PyHessian(
        case.model, case.criterion, case.batches(), "cpu"
    )
    return {"values": hessian.eigenvalues(top_n=5)[0], "trace": hessian.trace()}


def landscaper_set(case: Case) -> Found:
    hessian = import_module("landscaper.hessian").PyHessian(
        case.model, case.criterion, case.whole(), "cpu"
    )
    values = hessian.eigenvalues(maxIter=1000, tol=1e-9, top_n=5)[0]
    return {"values": values, "trace": hessian.trace(maxIter=300, tol=0)}


# pyhessian


def pyhessian(case: Case) -> Found:
    hessian = import_module("pyhessian").hessian(
        case.model, case.criterion, data=(case.x, case.y), cuda=False
    )
    values, _ = hessian.eigenvalues(top_n=5)
    return {"values": values, "trace": np.mean(hessian.trace())}


def in_float64() -> None:
    """PyHessian's draws and backpack's mean pooling have torch's default type, not the weights'."""
    import torch

    torch.set_default_dtype(torch.float64)


def pyhessian_set(case: Case) -> Found:
    in_float64()
    hessian = import_module("pyhessian").hessian(
        case.model, case.criterion, data=(case.x, case.y), cuda=False
    )
    values, _ = hessian.eigenvalues(maxIter=1000, tol=1e-9, top_n=5)
    return {"values": values, "trace": np.mean(hessian.trace(maxIter=300, tol=0))}


# hessian-eigenthings


def _eigenthings(case: Case, batches: list[Any]) -> tuple[Any, Any, Any, Any]:
    package = import_module("hessian_eigenthings")
    losses = import_module("hessian_eigenthings.loss_fns.standard")
    of = case.criterion
    hessian = package.HessianOperator(case.model, batches, package.supervised_loss(of))
    ggn = package.GGNOperator(
        case.model, batches, losses.supervised_forward, losses.supervised_loss_of_output(of)
    )
    fisher = package.EmpiricalFisherOperator(
        case.model, batches, losses.supervised_per_sample_loss(of)
    )
    return package, hessian, ggn, fisher


def eigenthings(case: Case) -> Found:
    package, hessian, ggn, fisher = _eigenthings(case, list(case.batches()))
    found = {"values": package.lanczos(hessian, k=5, seed=0).eigenvalues.tolist()}
    for name, operator in (("trace", hessian), ("ggn", ggn), ("fisher", fisher)):
        found[name] = _or_refused(
            lambda operator=operator: package.trace(operator, num_matvecs=99, seed=0).estimate
        )
    return found


def eigenthings_first(case: Case) -> Found:
    package, hessian, *_ = _eigenthings(case, list(case.batches()))
    return {"values": package.lanczos(hessian, k=1, seed=0).eigenvalues.tolist()}


def eigenthings_long(case: Case) -> Found:
    package, hessian, *_ = _eigenthings(case, [(case.x, case.y)])
    found = package.lanczos(hessian, k=5, max_iter=150, which="LA", seed=0)
    return {"values": found.eigenvalues.tolist()}


def eigenthings_batches(case: Case) -> Found:
    package, hessian, *_ = _eigenthings(case, list(case.batches()))
    more = {"max_iter": 150, "reorthogonalize": True, "which": "LA", "seed": 0}
    return {"values": package.lanczos(hessian, k=5, **more).eigenvalues.tolist()}


def eigenthings_set(case: Case) -> Found:
    package, hessian, ggn, fisher = _eigenthings(case, [(case.x, case.y)])
    more = {"max_iter": 150, "reorthogonalize": True, "which": "LA", "seed": 0}
    found = {"values": package.lanczos(hessian, k=5, **more).eigenvalues.tolist()}
    for name, operator in (("trace", hessian), ("ggn", ggn), ("fisher", fisher)):
        found[name] = package.trace(operator, num_matvecs=300, seed=0).estimate
    return found


def _or_refused(what: Callable[[], float]) -> Any:
    try:
        return what()
    except Exception as error:  # a package's own refusal, which the page shows
        return f"refuses: {type(error).__name__}"


# curvlinops


def curvlinops(case: Case) -> Found:
    from scipy.sparse.linalg import eigsh

    package = import_module("curvlinops")
    of = case.model, case.criterion, list(case.model.parameters()), case.batches()
    hessian = package.HessianLinearOperator(*of)
    found = {"values": eigsh(hessian.to_scipy(), k=5, which="LA")[0].tolist()}
    found["trace"] = float(package.hutchpp_trace(hessian, 99))
    found["ggn"] = float(package.hutchpp_trace(package.GGNLinearOperator(*of), 99))
    found["fisher"] = float(package.hutchpp_trace(package.EFLinearOperator(*of), 99))
    return found


def curvlinops_set(case: Case) -> Found:
    import torch
    from scipy.sparse.linalg import eigsh

    package = import_module("curvlinops")
    of = case.model, case.criterion, list(case.model.parameters()), case.batches()
    hessian = package.HessianLinearOperator(*of)
    found = {"values": eigsh(hessian.to_scipy(), k=5, which="LA")[0].tolist()}
    kinds = (hessian, package.GGNLinearOperator(*of), package.EFLinearOperator(*of))
    for name, operator in zip(("trace", "ggn", "fisher"), kinds):
        size, dtype = operator.shape[1], case.x.dtype
        blocks = torch.eye(size, dtype=dtype).split(64, dim=1)
        parts = [(block * (operator @ block)).sum() for block in blocks]
        found[name] = float(sum(parts))
    return found


# backpack


def backpack(case: Case) -> Found:
    package, extensions = import_module("backpack"), import_module("backpack.extensions")
    model, loss = package.extend(case.model), package.extend(case.criterion)
    n = len(case.x)
    found = {}
    kinds = {
        "trace": (extensions.DiagHessian(), "diag_h", 1),
        "ggn": (extensions.DiagGGNExact(), "diag_ggn_exact", 1),
        "fisher": (extensions.SumGradSquared(), "sum_grad_squared", n),
    }
    for name, (extension, attribute, factor) in kinds.items():

        def total(extension=extension, attribute=attribute, factor=factor) -> float:
            with package.backpack(extension):
                loss(model(case.x), case.y).backward()
            return factor * sum(float(getattr(p, attribute).sum()) for p in model.parameters())

        found[name] = _or_refused(total)
    return found


def backpack_set(case: Case) -> Found:
    in_float64()
    return backpack(case)


# rsam_ref


def _ours(case: Case) -> tuple[Any, Any]:
    """Our network with the case's weights, and its landscape."""
    import torch

    from benchmarks.flatness_survey.problem import ours, statistics
    from rsam_ref.sharpness import Landscape

    model = ours(case.network)
    w = torch.nn.utils.parameters_to_vector(case.model.parameters())
    model.weights.flat[...] = w.detach().numpy()
    running = [b for b in case.model.buffers() if b.is_floating_point()]
    for array, buffer in zip(statistics(model), running):
        array[...] = buffer.numpy()
    return model, Landscape(model, case.x.numpy(), case.y.numpy())


def rsam_ref_plane(case: Case) -> Found:
    from rsam_backends import Stream
    from rsam_ref.sharpness import filter_normalised_direction, loss_over_plane

    model, landscape = _ours(case)
    before = _our_state(model)
    w, shapes = model.weights.flat.copy(), model.weights.shapes
    points: list[np.ndarray] = []

    def loss(at: np.ndarray) -> Any:
        points.append(at.copy())
        return landscape.loss(at)

    across, up = (filter_normalised_direction(w, shapes, Stream("survey", n)) for n in range(2))
    steps = [float(t) for t in np.linspace(-1, 1, 21)]
    losses = loss_over_plane(loss, w, across, up, steps, steps)
    return {"losses": losses, "points": points, "changed": changed(before, _our_state(model))}


def rsam_ref_curvature(case: Case) -> Found:
    return _our_curvature(case)


def rsam_ref_curvature_set(case: Case) -> Found:
    return _our_curvature(case, tolerance=1e-7, products=300, exactly=True)


def _our_curvature(
    case: Case, tolerance: float = 1e-4, products: int = 30, exactly: bool = False
) -> Found:
    from rsam_backends import Stream
    from rsam_ref import sharpness

    model, landscape = _ours(case)
    before = _our_state(model)
    w = model.weights.flat.copy()
    top = sharpness.hessian_eigenvalues(
        landscape, w, 5, tolerance=tolerance, stream=Stream("survey", 0)
    )
    product = sharpness.product_at(landscape, w)
    trace = sharpness.hutch_plus_plus(product, w, products=products, stream=Stream("survey", 1))
    outputs, targets = sharpness.ModelOutputs(model, case.x.numpy()), np.eye(10)[case.y.numpy()]
    if exactly:
        ggn, fisher = sharpness.exact_traces(outputs.samples(), targets, w)
    else:
        ggn = sharpness.gauss_newton_trace(outputs, w, stream=Stream("survey", 2))
        fisher = sharpness.fisher_trace(outputs, targets, w, stream=Stream("survey", 3))
    return {
        "values": top.values,
        "trace": trace.total.mean,
        "ggn": ggn.mean,
        "fisher": fisher.mean,
        "changed": changed(before, _our_state(model)),
    }


def _our_state(model: Any) -> dict[str, Any]:
    from benchmarks.flatness_survey.problem import statistics

    return {
        "weights": model.weights.flat.tobytes(),
        "statistics": [s.tobytes() for s in statistics(model)],
        "modes": [layer.training for _, layer in model.children()],
    }


NEEDS = {
    "loss-landscapes==3.0.6": [],
    "losscape==1.5.10": ["h5py==3.16.0"],
    "pylandscape==0.1.3": [
        "pyhessian==0.1",
        "brevitas==0.12.1",
        "dependencies==2.0.1",
        "unfoldNd==0.2.3",
        "setuptools==80.9.0",
        "tqdm==4.70.1",
    ],
    "loss-landscape-3d==0.1.3": ["plotly==7.1.0", "narwhals==2.29.0", "packaging==26.4"],
    "gradfield==0.5.0": ["plotly==7.1.0", "narwhals==2.29.0", "packaging==26.4"],
    "nngeom==0.2.0": [],
    "landscaper==1.3.1": [
        "gudhi==3.13.0",
        "topopy==1.0.4",
        "nglpy==1.1.7",
        "treelib==1.8.0",
        "coloraide==8.13.1",
        "tqdm==4.70.1",
        "drawsvg==2.4.2",
        "pandas==3.1.1",
        "scikit-learn==1.9.1",
        "joblib==1.6.0",
        "threadpoolctl==3.8.0",
        "cloudpickle==3.1.3",
        "narwhals==2.29.0",
    ],
    "pyhessian==0.1": [],
    "hessian-eigenthings==1.0.0a5": ["tqdm==4.70.1"],
    "curvlinops-for-pytorch==3.0.1": [
        "backpack-for-pytorch==1.7.1",
        "einops==0.8.2",
        "unfoldNd==0.2.3",
        "tqdm==4.70.1",
        "einconv==0.1.0",
        "linear_operator==0.6.1",
        "jaxtyping==0.3.11",
        "wadler_lindig==0.1.8",
    ],
    "backpack-for-pytorch==1.7.1": ["einops==0.8.2", "unfoldNd==0.2.3"],
    "rsam-ref": [],
}
"""Each package, and what it needs beside torch, NumPy, SciPy and Matplotlib; no dependency else."""

LL, LO, PL, L3, GF, NN, LA, PH, HE, CU, BP, OURS = NEEDS
PLANE, CURVATURE = "plane", "curvature"

ROWS = [
    Row(LL, PLANE, AS_IT_COMES, loss_landscapes, snake=True),
    Row(
        LL,
        PLANE,
        "eval(), deepcopy_model=True, a GeneralModelWrapper around the parameters with two axes "
        "and more",
        loss_landscapes_set,
        snake=True,
    ),
    Row(LO, PLANE, AS_IT_COMES, losscape),
    Row(
        LO,
        PLANE,
        "eval(), directions of one's own, num_points=21, a loader of one batch",
        losscape_set,
    ),
    Row(PL, PLANE, AS_IT_COMES, pylandscape_plane),
    Row(L3, PLANE, AS_IT_COMES, landscape_3d),
    Row(
        L3,
        PLANE,
        "0 in the directions for all but the parameters with two axes and more",
        lambda case: landscape_3d(case, only_filters=True),
    ),
    Row(GF, PLANE, AS_IT_COMES, gradfield),
    Row(GF, PLANE, "ranges (-1, 1), resolution=21", gradfield_set),
    Row(NN, PLANE, AS_IT_COMES, nngeom_plane),
    Row(NN, PLANE, "directions of one's own", nngeom_plane_set),
    Row(LA, PLANE, AS_IT_COMES, landscaper_plane),
    Row(LA, PLANE, "eval(), directions of one's own", landscaper_plane_set),
    Row(OURS, PLANE, AS_IT_COMES, rsam_ref_plane),
    Row(PL, CURVATURE, AS_IT_COMES, pylandscape, dtype="float32"),
    Row(
        PL,
        CURVATURE,
        "torch.set_default_dtype(float64), n_iter=1000 and tol=1e-9; of the trace 300 draws, "
        'tol=0, aggregate="mean"',
        pylandscape_set,
    ),
    Row(L3, CURVATURE, AS_IT_COMES, landscape_3d_hessian),
    Row(
        L3,
        CURVATURE,
        "eval(), a loader of one batch, max_iter=1000, tol=1e-12",
        landscape_3d_hessian_set,
    ),
    Row(NN, CURVATURE, AS_IT_COMES, nngeom),
    Row(NN, CURVATURE, "eval(), lanczos_spectrum(m=150), n_samples=300", nngeom_set),
    Row(LA, CURVATURE, AS_IT_COMES, landscaper),
    Row(
        LA,
        CURVATURE,
        "maxIter=1000 and tol=1e-9; of the trace 300 draws, tol=0",
        landscaper_set,
    ),
    Row(PH, CURVATURE, AS_IT_COMES, pyhessian, dtype="float32"),
    Row(
        PH,
        CURVATURE,
        "torch.set_default_dtype(float64), maxIter=1000 and tol=1e-9; of the trace 300 draws, "
        "tol=0",
        pyhessian_set,
    ),
    Row(HE, CURVATURE, AS_IT_COMES, eigenthings),
    Row(HE, CURVATURE, "lanczos(k=1)", eigenthings_first),
    Row(HE, CURVATURE, 'eval(), one batch, max_iter=150, which="LA"', eigenthings_long),
    Row(
        HE,
        CURVATURE,
        "eval(), three batches of 128 and one of 16, max_iter=150, reorthogonalize=True, "
        'which="LA"',
        eigenthings_batches,
    ),
    Row(
        HE,
        CURVATURE,
        'eval(), one batch, max_iter=150, reorthogonalize=True, which="LA", num_matvecs=300',
        eigenthings_set,
    ),
    Row(CU, CURVATURE, AS_IT_COMES, curvlinops),
    Row(CU, CURVATURE, "eval(), the trace of the operator times the identity", curvlinops_set),
    Row(BP, CURVATURE, AS_IT_COMES, backpack),
    Row(BP, CURVATURE, "eval(), torch.set_default_dtype(float64)", backpack_set),
    Row(OURS, CURVATURE, AS_IT_COMES, rsam_ref_curvature),
    Row(
        OURS,
        CURVATURE,
        "tolerance=1e-7, hutch_plus_plus(products=300), exact_traces",
        rsam_ref_curvature_set,
    ),
]
