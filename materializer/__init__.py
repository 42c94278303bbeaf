"""dbt is the feature store: point-in-time-correct training sets and online features from dbt models."""

from materializer.errors import (
    DefinitionError,
    FeatureStoreError,
    InputError,
    LeaseLostError,
    MaterializationError,
    NotFoundError,
    OnlineStoreError,
    ProjectError,
    WarehouseError,
)
from materializer.materialize.run import ViewResult
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
