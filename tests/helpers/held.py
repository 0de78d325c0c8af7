"""Samples in memory, for measures of models."""


class Held:
    """Inputs and labels, as `rsam_ref.data.Samples` gives them."""

    def __init__(self, x, y):
        self.x, self.labels = x, y

    def __len__(self):
        return len(self.x)

    def take(self, index):
        return self.x[index]
