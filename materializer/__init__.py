"""dbt is the feature store: point-in-time-correct training sets and online features from dbt models."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from materializer.errors import (
        DefinitionError,
        FeatureStoreError,
        InputError,
        LandingError,
        LeaseLostError,
        MaterializationError,
        NotFoundError,
        OnlineStoreError,
        ProjectError,
        WarehouseError,
    )
    from materializer.materialize.plan import ViewResult
    from materializer.online.response import OnlineResponse, Status
    from materializer.project.definitions import Entity, Feature, FeatureService, FeatureView
    from materializer.store import FeatureStore
    from materializer.training.join import TrainingSet

__version__ = "0.1.0"

__all__ = [
    "DefinitionError",
    "Entity",
    "Feature",
    "FeatureService",
    "FeatureStore",
    "FeatureStoreError",
    "FeatureView",
    "InputError",
    "LandingError",
    "LeaseLostError",
    "MaterializationError",
    "NotFoundError",
    "OnlineResponse",
    "OnlineStoreError",
    "ProjectError",
    "Status",
    "TrainingSet",
    "ViewResult",
    "WarehouseError",
]

# Where each name is defined. It is imported when it is first asked for, so that a reader of online features pays
# neither for Arrow's compute functions nor for a warehouse.
_HOMES = {
    "Entity": "project.definitions",
    "Feature": "project.definitions",
    "FeatureService": "project.definitions",
    "FeatureStore": "store",
    "FeatureView": "project.definitions",
    "OnlineResponse": "online.response",
    "Status": "online.response",
    "TrainingSet": "training.join",
    "ViewResult": "materialize.plan",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'materializer' has no attribute '{name}'")
    found = getattr(import_module(f"materializer.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
