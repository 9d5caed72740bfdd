"""Tests of the shop, without etcd."""

import time
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from shop import Limits, billing, make_app

import tideover
from tideover.contrib.fastapi import Setting
from tideover.testing import MemoryStore, Outage, overriding

ORDER = {"quantity": 2, "price": 50}


@pytest.fixture
def app() -> FastAPI:
    return make_app(store=MemoryStore(values={"limits": {"items": 10}}, namespace="/shop"))


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


@pytest.fixture
def tide(client: TestClient) -> tideover.Coordinator:
    """The application's own coordinator, whose outage is `tide_outage`."""
    return tideover.current()


def test_an_order(client: TestClient) -> None:
    answer = client.post("/orders/7", json=ORDER)
    assert answer.json() == {"order": 7, "total": 120.0, "express": False}
    assert "tideover-status" not in answer.headers


def test_other_settings(client: TestClient, tide: tideover.Coordinator) -> None:
    with overriding(tide, {"vat": 0.5, "limits": Limits(items=1), "flags/express": True}):
        assert client.post("/orders/7", json=ORDER).json() == {"order": 7, "total": 75.0, "express": True}
    with overriding(tide, {"vat": "much"}):  # refused: the default
        assert client.post("/orders/7", json=ORDER).json()["total"] == 120.0


def test_overrides_of_fastapi(app: FastAPI, client: TestClient) -> None:
    app.dependency_overrides[Setting("vat")] = lambda: 0.0
    assert client.post("/orders/7", json=ORDER).json()["total"] == 100.0


def test_an_outage(client: TestClient, tide_outage: Outage) -> None:
    answer = client.post("/orders/7", json=ORDER)
    assert (answer.status_code, answer.json()["outage_id"] != "") == (503, True)  # no lock: refused, not guessed
    tide_outage.end()
    assert client.post("/orders/7", json=ORDER).status_code == 200


def test_the_job(client: TestClient) -> None:
    while not client.get("/settlement").json()["here"]:
        time.sleep(0.01)
    assert client.put("/settlement/batch", params={"batch": 50}).status_code == 200


def test_another_service(app: FastAPI, client: TestClient) -> None:
    with pytest.raises(httpx.ConnectError, match="'billing' has no endpoints"):
        client.get("/invoices/7")
    paid = httpx.MockTransport(lambda request: httpx.Response(200, text=f"paid: {request.url}"))
    app.dependency_overrides[billing] = lambda: httpx.AsyncClient(transport=paid)
    assert client.get("/invoices/7").json() == "paid: http://billing.service/invoices/7"


def test_nobody_sets_what_is_injected(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert [each["name"] for each in paths["/orders/{number}"]["post"]["parameters"]] == ["number"]
