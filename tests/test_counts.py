"""A guard against slower and larger steps that no clock is needed for: what a step does is counted.

The numbers to hold to are in benchmarks/counts.json; benchmarks/counts.py says what they are.
"""

import gc
import itertools
import json
import os
import tracemalloc
from pathlib import Path

import pytest
from filelock import FileLock

from benchmarks import counts
from rsam_ref import RSAM, SGD, models, objective
from rsam_ref.training.profiling import random_batch

CASES = [f"{model} {method}" for model in counts.BATCHES for method in counts.METHODS]
LONG = os.environ.get("RSAM_LONG_TESTS") == "1"


@pytest.fixture(scope="session")
def found(tmp_path_factory, worker_id):
    """Counted once, also where several processes share out the tests."""
    if worker_id == "master":
        return counts.count()
    path = tmp_path_factory.getbasetemp().parent / "counts.json"  # a folder of all of them
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            path.write_text(json.dumps(counts.count()), encoding="utf-8")
        return json.loads(path.read_text(encoding="utf-8"))


def test_the_cases_are_those_of_the_file():
    assert list(counts.committed()) == CASES


@pytest.mark.parametrize("case", CASES)
def test_a_step_does_what_it_did(case, found):
    lines = counts.differences(case, counts.committed()[case], found[case])
    assert not lines, (
        "\n".join(["a step does something else than before:", *lines])
        + f"\nIf that is what you meant, run {counts.COMMAND} and commit the file with its reason."
    )


@pytest.mark.parametrize("model", counts.BATCHES)
@pytest.mark.parametrize("method", ["sam", "rsam"])
def test_sam_and_rsam_are_two_passes_and_no_more(model, method, found):
    one, two = found[f"{model} sgd"], found[f"{model} {method}"]
    assert (one["passes"], two["passes"]) == (1, 2)
    for phase in ("forward", "backward"):
        assert two[phase] == {name: 2 * calls for name, calls in one[phase].items()}
    # and the length of the ascent, a product of P by P numbers
    assert two["product_flops"] == 2 * one["product_flops"] + 2 * one["weights"]
    for key in ("value_bytes", "gradient_bytes"):
        assert two[key] == 2 * one[key]


def test_products_are_those_of_the_formula(found):
    """Forward, and for each layer's weights; for its input where that has a gradient."""
    sizes = [a * b for a, b in itertools.pairwise([784, 256, 256, 10])]
    mlp = 2 * 128 * (3 * sum(sizes) - sizes[0])
    first, second, last = 28 * 28 * 9 * 32, 14 * 14 * 9 * 32 * 64, 3136 * 10
    cnn = 2 * 16 * (2 * first + 3 * second + 3 * last)
    for case, flops in (("mlp sgd", mlp), ("cnn sgd", cnn)):
        # a kernel may sum columns as products with ones: at most a hundredth
        assert flops <= found[case]["product_flops"] <= 1.01 * flops


@pytest.mark.parametrize("case", CASES)
def test_memory_is_that_of_one_graph(case, found):
    """The first pass's graph is gone before the second begins, and each value is held once.

    What is held: the vectors that the method needs, one pass's values, the batch, and the
    gradients under way. ``LARGEST`` is the room for the last two, in units of the values.
    """
    model, method = case.split()
    c = found[case]
    values = c["value_bytes"] / c["passes"]
    vectors = 4 * c["weights"] * counts.VECTORS[method]
    held = c["peak_bytes"] - vectors
    assert held <= LARGEST[model] * values
    assert abs(c["left_bytes"]) < 64 << 10


LARGEST = {"mlp": 3.0, "cnn": 1.35, "resnet20": 0.8, "vit_tiny": 1.25}


@pytest.mark.parametrize("case", ["mlp", "cnn", "resnet20", "vit_tiny"])
def test_the_message_says_what_changed_and_how_to_accept_it(case):
    before = counts.committed()[f"{case} sgd"]
    now = {
        **before,
        "passes": 2,
        "forward": {**before["forward"], "linear": before["forward"]["linear"] + 1},
        "peak_bytes": round(before["peak_bytes"] * 1.1),
    }
    assert counts.differences("it", before, before) == []
    lines = counts.differences("it", before, now)
    calls = before["forward"]["linear"]
    assert f"it: linear forward: {calls} calls before, {calls + 1} now" in lines
    assert "it: passes: 1 before, 2 now (+100.0%)" in lines
    assert any("it: peak_bytes: " in line and "(+10.0%)" in line for line in lines)
    assert len(lines) == 3


def resident():
    """Bytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_memory_does_not_grow_over_many_steps():
    """300 steps (with RSAM_LONG_TESTS=1 10,000), without the collector of cycles.

    A step's values are 180 kB, so a graph that were kept would show after two steps. Margins:
    256 kB of arrays and Python's objects (Python keeps up to 2,000 dead tuples of each size), 4 MB
    of the process (the C library's own keeping).
    """
    model = models.cnn(size=8, width=16)
    optimizer = RSAM(SGD(0.01, momentum=0.9))
    x, y = random_batch(16, (1, 8, 8), 10)

    def steps(n):
        for _ in range(n):
            optimizer.step(objective(model, x, y), model.weights.flat)

    steps(50)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        steps(5)
        before, whole = tracemalloc.get_traced_memory()[0], resident()
        steps(10_000 if LONG else 300)
        after, whole_after = tracemalloc.get_traced_memory()[0], resident()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert after - before < 256 << 10
    assert whole_after - whole < 4 << 20
