"""metagen: image generators that learn to learn.

`import metagen` is quick: torch is imported where a name is first used that needs it.
"""

from typing import TYPE_CHECKING

from metagen.errors import MetagenError

if TYPE_CHECKING:
    from metagen.model import AdaptedModel, AdaptedModels, Model, load
    from metagen.preparation.prepared import Prepared, prepare

__version__ = "0.1.0"

__all__ = ["AdaptedModel", "AdaptedModels", "MetagenError", "Model", "Prepared", "load", "prepare"]

if not TYPE_CHECKING:  # a type checker that saw it would take any name for one of the package's

    def __getattr__(name):  # noqa: ANN001, ANN202
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name in ("Prepared", "prepare"):
            from metagen.preparation import prepared

            return getattr(prepared, name)
        from metagen import model

        return getattr(model, name)

    def __dir__():  # noqa: ANN202
        return [*globals(), *__all__]
