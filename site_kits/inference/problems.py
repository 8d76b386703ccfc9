"""What went wrong, as problem+json (RFC 9457) with a sentence for the person at the screen."""

from starlette.responses import JSONResponse


class RequestProblemError(Exception):
    """A request that is refused; ``detail`` says what to do next."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail


_TITLES = {
    400: "The request is malformed",
    401: "The ticket is not valid",
    404: "Not here",
    405: "Not this way",
    409: "The model is not usable",
    413: "Too large",
    415: "Unknown kind of content",
    422: "The input cannot be used",
    503: "Not ready yet",
}


def problem_response(problem: RequestProblemError) -> JSONResponse:
    """The answer of a refused request."""
    body = {
        "type": "about:blank",
        "title": _TITLES.get(problem.status, "Error"),
        "detail": problem.detail,
        "code": problem.code,
        "status": problem.status,
    }
    headers = {"Cache-Control": "no-store"}
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Ticket"
    return JSONResponse(body, problem.status, headers=headers, media_type="application/problem+json")
