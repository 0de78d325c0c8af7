"""Settings as a user gives them, made whole: the recipe of a run that holds in any folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rsam_ref.loading import absolute
from rsam_ref.training import recipe
from rsam_ref.training.recipe import Recipe
from rsam_ref.training.trained import settings_of_the_model


def whole(settings: dict[str, Any], source: str) -> Recipe:
    """The recipe of these settings, with ``init``'s model if none is named, and absolute paths.

    ``source`` says in errors where they come from. Raises RecipeError for settings that make no
    sense, and DataError where ``init`` names a run that cannot be read.
    """
    if "init" in settings and "model" not in settings:
        settings = settings_of_the_model(Path(settings["init"])) | settings
    chosen = recipe.check(settings, source)
    paths = {name: absolute(getattr(chosen, name)) for name in ("model", "loss")}
    if chosen.data != "digits":
        paths["data"] = str(Path(chosen.data).resolve())
    if chosen.init is not None:
        paths["init"] = str(Path(chosen.init).resolve())
    return recipe.check(settings | paths, source)
