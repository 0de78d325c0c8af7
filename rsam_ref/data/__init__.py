"""Data: readers that give arrays on the host, and the problems that are made of them."""

from rsam_ref.data.digits import Split, digits, digits_split
from rsam_ref.data.idx import DataError, read_idx

__all__ = ["DataError", "Split", "digits", "digits_split", "read_idx"]
