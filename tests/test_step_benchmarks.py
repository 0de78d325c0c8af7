"""The benchmark of whole steps: who is timed against whom, and that PyTorch's step is R-SAM."""

import copy
import os
import shutil
import sys

import pytest
import typer

from benchmarks import contestants, duel, one_core, steps

EVERYTHING = [list(steps.BATCHES), list(steps.METHODS), list(steps.COLOURS), list(steps.KERNELS)]


def test_every_set_of_kernels_faces_the_peers_and_the_definitions_one_of_them():
    cases = steps.cases(*EVERYTHING)
    for kernels in ("ours_cpu", "ours_onednn_cpu"):
        faced = {case.b for case in cases if (case.model, case.a) == ("cnn", kernels)}
        assert faced >= set(steps.COLOURS)
    assert {case.b for case in cases if case.a == "ours_plain_cpu"} == {"torch_cpu"}
    assert {case.b for case in cases} <= set(duel.PEERS)
    assert {who for case in cases for who in (case.a, case.b)} <= set(contestants.CONTESTANTS)


def test_a_case_says_which_kernels_are_not_the_usual_ones():
    case = duel.Case("mlp", 32, "sgd", "ours_onednn_cpu", "limit_cpu")
    assert str(case) == "mlp, batch 32, sgd, onednn, against the limit: its products as one"
    assert duel.Case("mlp", 32, "sgd", "ours_cpu", "torch_cpu").step == "mlp, batch 32, sgd"


def test_kernels_that_are_not_there_leave_a_case_out():
    with pytest.raises(ImportError, match="nonesuch"):
        contestants.ours("numpy", "nonesuch", "mlp", 2, "sgd")


def test_the_limit_has_the_flops_of_the_step():
    """Forward and two products backward, but for the gradient at the first layer's input."""
    sizes = contestants.MLP
    products = [2 * a * b for a, b in zip(sizes, sizes[1:])]  # noqa: RUF007
    expected = 64 * (3 * sum(products) - products[0])
    assert contestants.flops("mlp", 64, "sgd") == pytest.approx(expected, rel=0.01)
    assert contestants.flops("mlp", 64, "rsam") == pytest.approx(2 * expected, rel=0.02)


@pytest.mark.parametrize("method", ["sam", "rsam"])
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_the_step_of_pytorchs_lists_is_that_of_our_optimizer(method, model, monkeypatch):
    torch = pytest.importorskip("torch")
    from rsam_ref.pytorch import RSAM, SAM

    net = contestants.torch_net(model)
    twin = copy.deepcopy(net)
    z = torch.randn(sum(p.numel() for p in net.parameters()))
    monkeypatch.setattr(contestants, "torch_net", lambda name: net)
    step = contestants.torch_step("cpu", False, False, model, 4, method)
    monkeypatch.setattr(torch, "randn", lambda *size, **options: z.clone())
    settings = {
        "lr": contestants.LR,
        "momentum": contestants.MOMENTUM,
        "weight_decay": contestants.WEIGHT_DECAY,
    }

    def draws(step, weights):
        parts = z.split([p.numel() for p in weights])
        return [part.reshape(p.shape) for part, p in zip(parts, weights)]

    own = {"sigma": contestants.SIGMA, "lam": contestants.LAM, "draw": draws}
    made, options = (SAM, {}) if method == "sam" else (RSAM, own)
    ours = made(twin, torch.optim.SGD, rho=contestants.RHO, **options, **settings)
    x, y = map(torch.from_numpy, contestants.batch(model, 4))

    def closure():
        ours.zero_grad()
        loss = torch.nn.functional.cross_entropy(twin(x), y)
        loss.backward()
        return loss

    for _ in range(2):
        step()
        ours.step(closure)
    for p, q in zip(net.parameters(), twin.parameters()):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process")
@pytest.mark.parametrize("one_core", [False, True])
def test_a_contestants_process_is_of_the_folder_that_it_is_asked_of(one_core, tmp_path):
    """Of a former checkout, say; on one core it has one thread, and only its own time counts."""
    (tmp_path / "benchmarks").mkdir()
    for name in ("__init__.py", "worker.py"):
        shutil.copy(duel.ROOT / "benchmarks" / name, tmp_path / "benchmarks")
    (tmp_path / "benchmarks" / "mine.py").write_text(
        "import os, time\n"
        "def step_of():\n"
        "    seen = [os.environ.get('OMP_NUM_THREADS'), len(os.sched_getaffinity(0))]\n"
        "    open('seen', 'w').write(str(seen))\n"
        "    return lambda: time.sleep(0.05)\n"
    )
    threads = os.environ.get("OMP_NUM_THREADS")
    worker = duel.Worker(
        "benchmarks.mine:step_of", sys.executable, folder=tmp_path, one_core=one_core
    )
    try:
        assert "versions" in worker.ask()
        seconds = worker.run(2)
    finally:
        worker.close()
    seen = ["1", 1] if one_core else [threads, len(os.sched_getaffinity(0))]
    assert (tmp_path / "seen").read_text() == str(seen)
    assert (seconds < 0.02) == one_core  # it slept, and had no core meanwhile


def test_each_of_our_sets_of_kernels_is_told_as_a_share_of_each_contestants_time():
    times = {"NumPy kernels": [0.002, 0.004], "oneDNN": [0.001, 0.002], "PyTorch": [0.004, 0.004]}
    assert one_core.rows(times) == [
        ("NumPy kernels", "3.00", "", "0.50 (0.50 to 0.50)"),
        ("oneDNN", "1.50", "2.00 (2.00 to 2.00)", ""),
        ("PyTorch", "4.00", "0.75 (0.62 to 0.88)", "0.38 (0.31 to 0.44)"),
    ]


def test_a_former_checkout_that_is_none_is_refused(tmp_path):
    with pytest.raises(typer.BadParameter, match=r"is no checkout: it has no benchmarks"):
        one_core.main(models="mlp", methods="sgd", turns=1, former=tmp_path)
