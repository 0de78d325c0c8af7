"""Data: readers that give arrays on the host, and the problems that are made of them."""

from rsam_ref.data.damaged import find_damaged
from rsam_ref.data.dataset import Dataset, Samples, load_dataset
from rsam_ref.data.digits import Split, digits, digits_split
from rsam_ref.data.errors import DamagedImage, DataError
from rsam_ref.data.idx import read_idx
from rsam_ref.data.inputs import Inputs

__all__ = [
    "DamagedImage",
    "DataError",
    "Dataset",
    "Inputs",
    "Samples",
    "Split",
    "digits",
    "digits_split",
    "find_damaged",
    "load_dataset",
    "read_idx",
]
