"""python -m harness.tracking.serving models:/ddpm@champion: a generator that answers requests, until Ctrl-C or SIGTERM.

MLflow imports what a model names before anything of ours runs: here the model is looked at first.
"""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import tyro

from harness import cli
from harness.tracking.addresses import default_uri
from harness.tracking.server import HOST, Port, require_free

MAX_BYTES = 256 * 1024
"""Of a request: a thousand labels and seeds, a record each, are a fifth of it."""
AT_ONCE = 8
"""Requests that are read or drawn for at the same time."""
READING_S = 10.0


def serve(model: Annotated[str, tyro.conf.Positional], port: Port = 5001, tracking_uri: str | None = None) -> None:
    """Serve a generator at http://127.0.0.1:PORT/invocations.

    Args:
        model: its address, such as models:/ddpm@champion or models:/ddpm/3
        port: where it listens, on 127.0.0.1
        tracking_uri: MLflow store; by default the environment's MLFLOW_TRACKING_URI, else sqlite under outputs/
    """
    require_free(port)
    import uvicorn

    app = application(model, tracking_uri or default_uri())
    print(f"http://{HOST}:{port}/invocations draws from {model}", flush=True)
    uvicorn.run(app, host=HOST, port=port, log_level="warning", limit_concurrency=8 * AT_ONCE)


def application(model: str, tracking_uri: str) -> "Door":
    """MLflow's scoring server of a model, behind a door. Raises InputError for a model that is not a generator's."""
    import mlflow.pyfunc
    from mlflow.pyfunc import scoring_server

    from harness.tracking import answers, stores

    with tempfile.TemporaryDirectory() as place, stores.answering(tracking_uri):
        folder = answers.fetched_model(stores.reading_client(tracking_uri), model, Path(place))
        return Door(scoring_server.init(mlflow.pyfunc.load_model(str(folder))))


class Door:
    """An ASGI application behind a limit of bytes, of seconds in which they come, and of requests at once."""

    def __init__(self, app: Any) -> None:
        self.app, self.inside = app, 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
        elif not dict(scope["headers"]).get(b"content-type", b"").startswith(b"application/json"):
            await _refuse(send, 415, "a request is of the type application/json")
        elif self.inside >= AT_ONCE:
            await _refuse(send, 503, f"{AT_ONCE} requests are being answered: try again")
        else:
            self.inside += 1
            try:
                await self._answer(scope, receive, send)
            finally:
                self.inside -= 1

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            body = await asyncio.wait_for(_body(receive), READING_S)
        except TimeoutError:
            await _refuse(send, 408, f"a request must be here within {READING_S:.0f} s")
            return
        if len(body) > MAX_BYTES:
            await _refuse(send, 413, f"a request may have {MAX_BYTES:,} bytes, which are more than 1,000 labels")
            return
        try:
            json.loads(body)
        except (ValueError, RecursionError) as error:
            await _refuse(send, 400, f"a request is JSON, which this is not: {error}")
            return
        whole = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Any:
            return whole.pop() if whole else await receive()

        answer: list[Any] = []

        async def keep(message: Any) -> None:
            answer.append(message)

        try:
            await self.app(scope, again, keep)
        except Exception as error:  # MLflow's parser's: what its model raises it answers itself
            await _refuse(send, 400, f"a request cannot be read: {error}")
            return
        for message in answer:
            await send(message)


async def _body(receive: Any) -> bytes:
    """A request's body, or what is more than MAX_BYTES of a longer one."""
    body, more = b"", True
    while more and len(body) <= MAX_BYTES:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


async def _refuse(send: Any, status: int, sentence: str) -> None:
    body = json.dumps({"error_code": "BAD_REQUEST" if status < 500 else "TEMPORARILY_UNAVAILABLE", "message": sentence})
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})


if __name__ == "__main__":
    cli.main(serve)
