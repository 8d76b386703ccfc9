"""The site's own web application: predictions for bearers of tickets, models' states."""

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from fl_jobs.approval import site_log
from fl_jobs.errors import FLJobError, SiteLogError
from site_kits.inference.admission import Admission
from site_kits.inference.bodies import read_uploads, to_records
from site_kits.inference.doors import BodyGauge, Doors
from site_kits.inference.problems import RequestProblemError, problem_response
from site_kits.inference.shelf import Loader, ModelShelf, ModelUnusableError, load_predictor
from site_kits.manifest import KitManifest
from site_kits.site_home import ServeOrder, SiteHome, read_serving
from site_kits.translation import _

log = logging.getLogger("consilium.inference")

_Result = TypeVar("_Result")
_WATCH_S = 1.0
_BODY_S = 60


class Inference:
    """The routes and what they share. Models are touched by one thread only; the event loop never waits."""

    def __init__(self, home: SiteHome, manifest: KitManifest, loader: Loader = load_predictor) -> None:
        self.home, self.manifest = home, manifest
        self.admission = Admission(home, manifest)
        self._shelf = ModelShelf(home, loader)
        self._model_thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._states: list[dict[str, Any]] = []

    async def predict(self, request: Request) -> Response:
        """POST /v1/predict. The ticket is checked before a byte of the body is read."""
        gauge = BodyGauge(request.receive)
        try:
            order = self.admission.admit(request.headers.get("authorization", ""))
            async with asyncio.timeout(_BODY_S):
                kind, parts = await read_uploads(Request(request.scope, gauge))
            answer = await self._in_model_thread(lambda: self._answer(order, kind, parts))
        except RequestProblemError as exc:
            await gauge.drain()
            return problem_response(exc)
        except TimeoutError:
            sentence = _("The request took longer than {s} s to arrive. Send it again.").format(s=_BODY_S)
            return problem_response(RequestProblemError(400, "slow", sentence))
        return JSONResponse(answer)

    def _answer(self, order: ServeOrder, kind: str, parts: list[bytes]) -> dict[str, Any]:
        try:
            loaded = self._shelf.get(order)
        except ModelUnusableError as exc:
            status = 503 if exc.state == "waiting" else 409
            raise RequestProblemError(status, f"model_{exc.state}", str(exc)) from exc
        records = to_records(kind, parts, loaded.spec.study.task)
        try:
            predictions = loaded.model.predict(records)
        except FLJobError as exc:
            raise RequestProblemError(422, "input", str(exc)) from exc
        self._log(order, records, predictions)
        return {
            "study": order.study,
            "site": self.manifest.site,
            "version_label": order.version_label,
            "arm": order.arm,
            "shared_sha256": order.shared_sha256,
            "personal_sha256": order.personal_sha256,
            "teaching": loaded.spec.study.teaching,
            "predictions": [
                {"label": one.label, "probabilities": {k: float(v) for k, v in one.probabilities.items()}}
                for one in predictions
            ],
        }

    def _log(self, order: ServeOrder, records: Sequence[Any], predictions: Sequence[Any]) -> None:
        """One entry for each answer before it is shown; an answer that cannot be logged is not given."""
        model = f"{order.shared_sha256 or '-'} {order.personal_sha256}"
        try:
            site_log.record_all(
                self.home.root,
                [
                    ("prediction.served", order.run, order.round, order.study, {
                        "subject": site_log.pseudonym(self.home.root, _case_bytes(record)),
                        "model": model,
                        "bucket": _bucket(prediction),
                    })
                    for record, prediction in zip(records, predictions, strict=True)
                ],
            )  # fmt: skip
        except SiteLogError as exc:
            raise RequestProblemError(503, "site_log", str(exc)) from exc

    async def status(self, _request: Request) -> Response:
        """GET /v1/status: which models this site serves and whether they are usable. No counts, no data."""
        return JSONResponse({"site": self.manifest.site, "models": self._states})

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """Load torch and the ordered models in the background, then keep an eye on orders and files."""
        watcher = asyncio.create_task(self._watch())
        yield
        watcher.cancel()
        self._model_thread.shutdown(wait=False, cancel_futures=True)

    async def _watch(self) -> None:
        while True:
            await self._in_model_thread(self._inspect)
            await asyncio.sleep(_WATCH_S)

    def _inspect(self) -> None:
        orders = read_serving(self.home).orders
        self._shelf.keep_only(orders)
        known = {one["promotion"] for one in self._states}
        for order in orders:
            if order.promotion not in known:
                self._states = [*self._states, _state(order, "loading", "")]
        self._states = [_state(order, *self._shelf.inspect(order)) for order in orders]

    def _in_model_thread(self, work: Callable[[], _Result]) -> "asyncio.Future[_Result]":
        context = contextvars.copy_context()  # the language of the request
        return asyncio.get_running_loop().run_in_executor(self._model_thread, context.run, work)


def _case_bytes(record: Any) -> bytes:
    """What makes a case the same case: an image's pixels, or the row or text itself."""
    return bytes(record.tobytes()) if hasattr(record, "tobytes") else repr(record).encode()


def _bucket(prediction: Any) -> str:
    """The answer in the coarseness that is kept: its label and its probability in tenths."""
    tenths = min(9, int(10 * float(prediction.probabilities.get(prediction.label, 0.0))))
    return f"{prediction.label} {tenths}0-{tenths + 1}0 %"


def _state(order: ServeOrder, state: str, detail: str) -> dict[str, Any]:
    return {
        "promotion": order.promotion,
        "state": state,
        "detail": detail,
        "study": order.study,
        "arm": order.arm,
        "label": order.version_label,
        "round": order.round,
    }


async def _http_problem(_request: Request, exc: Exception) -> Response:
    status = exc.status_code if isinstance(exc, HTTPException) else 500
    return problem_response(RequestProblemError(status, "http", _("There is nothing at this address.")))


async def _own_fault(_request: Request, _exc: Exception) -> Response:
    sentence = _("The site could not answer. Its operator finds the reason in logs/inference.log.")
    return problem_response(RequestProblemError(500, "internal", sentence))


def create_app(
    home: SiteHome,
    manifest: KitManifest,
    *,
    loader: Loader = load_predictor,
    hosts: frozenset[str] | None = None,
) -> ASGIApp:
    """The ASGI application of one site. ``loader`` is ``Predictor.load``, or a double in tests."""
    inference = Inference(home, manifest, loader)
    routes = [
        Route("/v1/status", inference.status),
        Route("/v1/predict", inference.predict, methods=["POST"]),
    ]
    app = Starlette(
        routes=routes,
        lifespan=inference.lifespan,
        exception_handlers={HTTPException: _http_problem, Exception: _own_fault},
    )
    return Doors(app, web_origin=inference.admission.web_origin, hosts=hosts)
