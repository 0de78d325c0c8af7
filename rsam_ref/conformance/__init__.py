"""Is it SAM, or R-SAM? Another implementation, held against the algorithm from outside.

`check` sees only where an implementation evaluates the gradient and where the weights land, so it
needs no hook in the other code, and takes any framework. It names what diverges by stable codes
(see catalogue.py), each with its evidence, its effect, and how to mend it.
"""

from rsam_ref.conformance.checking import check
from rsam_ref.conformance.observe.observer import BrokenError
from rsam_ref.conformance.report.catalogue import CATALOGUE
from rsam_ref.conformance.report.report import Finding, Report

__all__ = ["CATALOGUE", "BrokenError", "Finding", "Report", "check"]
