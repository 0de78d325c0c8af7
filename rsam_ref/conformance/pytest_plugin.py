"""A fixture for pytest, by which a project keeps its own implementation conforming.

    def test_my_optimizer_is_sam(rsam_conforms):
        rsam_conforms(MySAM, "sam")

It is there as soon as rsam-ref is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import pytest


@pytest.fixture
def rsam_conforms() -> Callable[..., Any]:
    """A function that checks an implementation and returns the report.

    Where it diverges, or cannot be checked, the test fails: a line with the codes, and one for each
    finding. ``allow`` are codes that are known and accepted (unknown ones are refused); other
    arguments are `check`'s.
    """
    from rsam_ref.conformance import BrokenError, check
    from rsam_ref.conformance.report.catalogue import check_codes

    def conforms(
        subject: Any, algorithm: str = "rsam", *, allow: Collection[str] = (), **options: Any
    ) -> Any:
        __tracebackhide__ = True
        check_codes(allow)
        try:
            report = check(subject, algorithm, **options)
        except BrokenError as error:
            pytest.fail(f"could not be checked against {algorithm}: {error}", pytrace=False)
        wrong = [f for f in report.findings if f.diverges and f.code not in allow]
        if wrong:
            codes = ", ".join(f.code for f in wrong)
            lines = [f"  {f}; to mend it: {f.remedy}" for f in wrong]
            pytest.fail("\n".join([f"diverges from {algorithm}: {codes}", *lines]), pytrace=False)
        return report

    return conforms
