"""A FastAPI service whose settings come from the environment, from etcd and from defaults, in every worker alike.

    etcd &
    etcdctl put /taxi/config/fares/per_km 1.80
    etcdctl put /taxi/config/fares/night/factor 1.5
    TAXI_CURRENCY=EUR uvicorn --app-dir examples settings_service:app --workers 4
    curl -i 'http://127.0.0.1:8000/fare?km=10'

Put another `per_km`, and all workers have it; put `cheap`, and none has; stop etcd, and start the service again.
`ETCD_ENDPOINTS` names other members, separated by commas.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel, Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from tideover.asgi import TideoverMiddleware
from tideover.contrib.pydantic import TideoverSettingsSource, live_settings

ENDPOINTS = os.environ.get("ETCD_ENDPOINTS", "127.0.0.1:2379").split(",")


class Night(BaseModel):
    """What is different at night.

    Attributes:
        factor: By how much a ride is dearer.
    """

    factor: float = Field(default=1.0, ge=1)


class Settings(BaseSettings):
    """What a ride costs.

    Attributes:
        per_km: The price of a kilometre.
        currency: Which money that is.
        night: What is different at night.
    """

    model_config = SettingsConfigDict(env_prefix="TAXI_")

    per_km: float = Field(default=2.0, gt=0)
    currency: str = "USD"
    night: Night = Night()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Ask the environment first, then etcd."""
        return init_settings, env_settings, TideoverSettingsSource(settings_cls, prefix="fares/")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Hold the settings, which follow their keys as long as somebody does."""
    app.state.settings = live_settings(Settings)
    yield


app = FastAPI(title="taxi", lifespan=lifespan)
app.add_middleware(TideoverMiddleware, endpoints=ENDPOINTS, namespace="/taxi", status_header=True)


def present_settings(request: Request) -> Settings:
    """Return the settings as they are now: one object for the whole request."""
    settings: Settings = request.app.state.settings.value
    return settings


class Fare(BaseModel):
    """What a ride costs.

    Attributes:
        price: How much.
        currency: Of which money.
        worker: The process that has answered.
        refused: Why newer settings are not used; empty if there are none.
    """

    price: float
    currency: str
    worker: int
    refused: str


@app.get("/fare")
async def fare(
    request: Request, km: float, settings: Annotated[Settings, Depends(present_settings)], night: bool = False
) -> Fare:
    """Answer with the price of a ride."""
    price = km * settings.per_km * (settings.night.factor if night else 1)
    refused = str(request.app.state.settings.rejection or "")
    return Fare(price=round(price, 2), currency=settings.currency, worker=os.getpid(), refused=refused)
