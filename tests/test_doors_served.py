"""A served generator: nothing that a model brings is imported, and no request takes more than it may."""

import asyncio
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from processes import environment

from harness import tracking
from harness.data.images import ImageShape
from harness.errors import InputError
from harness.methods import vae
from harness.runs import exported, generators
from harness.tracking import artifacts, models, serving

JSON = "application/json"
SHAPE = ImageShape(1, 8, 8, 10)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory, empty_outputs: Path) -> str:
    """A store in which models:/m-ID is a small VAE; the id is in the file `id` beside it."""
    place = tmp_path_factory.mktemp("served")
    shutil.copy(empty_outputs / "mlflow.db", place)
    uri = f"sqlite:///{place}/mlflow.db"
    store = tracking.client(uri)
    experiment = store.create_experiment("generators", (place / "artifacts" / "generators").as_uri())
    model = generators.build_generator("vae", vae.Config(steps=1, hidden_channels=4, latent_size=2), SHAPE, seed=0)
    exported.export_generator(place / "model", "vae", model, SHAPE, [str(label) for label in range(10)])
    run = store.create_run(experiment).info.run_id
    said = {"labels": [0, 1], "about": {}, "description": "a VAE", "picture": None}
    (place / "id").write_text(models.log(run, experiment, place / "model", said, [], store))
    return uri


@pytest.fixture(scope="module")
def address(uri: str) -> str:
    return f"models:/{(Path(uri.removeprefix('sqlite:///')).parent / 'id').read_text()}"


@pytest.fixture
def folder(uri: str, address: str, tmp_path: Path) -> Path:
    """The model's files, as they are fetched."""
    (made,) = Path(uri.removeprefix("sqlite:///")).parent.glob(f"artifacts/generators/models/{address[8:]}/artifacts")
    return shutil.copytree(made, tmp_path / "fetched")


# --- What a model brings ---------------------------------------------------------------------------------


def changed(**said: Any) -> Callable[[Path], object]:
    """The MLmodel says something else of how it is loaded."""

    def change(folder: Path) -> None:
        about = yaml.safe_load((folder / "MLmodel").read_text())
        about["flavors"]["python_function"] |= said
        (folder / "MLmodel").write_text(yaml.safe_dump(about))

    return change


def added(name: str) -> Callable[[Path], object]:
    def add(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("raise SystemExit('it ran')")

    return add


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (changed(loader_module="evil"), r"is not a generator's; experiments/ddpm\.py"),
        (changed(code="code"), r"is not a generator's; experiments/ddpm\.py"),
        (changed(config={"a": 1}), r"is not a generator's; experiments/ddpm\.py"),
        (changed(data="../../other"), r"its data are said to be at \.\./\.\./other"),
        (changed(data="/etc"), "its data are said to be at /etc"),
        (added("code/evil.py"), "which has no code/evil.py"),
        (added("data/model/sitecustomize.py"), "which has no data/model/sitecustomize.py"),
        (lambda folder: (folder / "MLmodel").write_text("flavors: " + "[" * 5000), "its MLmodel is damaged"),
        (lambda folder: (folder / "MLmodel").write_text("a: " + "b" * 2_000_000), "more than 1,000,000 bytes"),
        (lambda folder: (folder / "MLmodel").write_text("!!python/object/apply:os.system [id]"), "damaged"),
    ],
)
def test_a_model_with_anything_else_is_refused(folder: Path, change: Callable[[Path], object], reason: str) -> None:
    assert artifacts.generator_in(folder, "models:/vae/1").name == "model"
    change(folder)
    with pytest.raises(InputError, match=reason) as refused:
        artifacts.generator_in(folder, "models:/vae/1")
    assert "\n" not in str(refused.value)


def test_serving_a_model_runs_none_of_its_code(uri: str, folder: Path, tmp_path: Path) -> None:
    store = tracking.client(uri)
    changed(loader_module="evil", code="code")(folder)
    (folder / "code").mkdir()
    (folder / "code" / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    run = store.create_run("1").info.run_id
    made = store.create_logged_model("1", "generator", run)
    store.log_model_artifacts(made.model_id, str(folder))
    store.finalize_logged_model(made.model_id, "READY")
    served = subprocess.run(
        [sys.executable, "-m", "harness.tracking.serving", f"models:/{made.model_id}", "--port", "0",
         "--tracking-uri", uri],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (served.returncode, served.stderr.count("\n")) == (2, 1), served.stderr
    assert "is not a generator's" in served.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("shape", {"height": 10**9}), ("shape", {"num_classes": 10**12}), ("config", {"hidden_channels": 10**9}),
     ("config", {"unknown": 1}), ("method", "../../evil"), ("method", "blocks")],
    ids=str,
)  # fmt: skip
def test_a_file_that_asks_for_another_network_is_refused(folder: Path, name: str, value: Any) -> None:
    file = folder / "data" / "model" / "generator.json"
    described = json.loads(file.read_text())
    described[name] = described[name] | value if isinstance(value, dict) else value
    file.write_text(json.dumps(described))
    with pytest.raises(InputError) as refused:
        exported.restore_generator(file.parent)
    assert "\n" not in str(refused.value)


# --- What a request brings -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def door(uri: str, address: str) -> serving.Door:
    logging.disable(logging.ERROR)  # a line for each refusal
    return serving.application(address, uri)


def post(door: serving.Door, *parts: bytes | None, kind: str = JSON) -> tuple[int, dict[str, Any]]:
    """What a request is answered whose body comes in these parts; None never comes."""
    return asyncio.run(posted(door, *parts, kind=kind))


async def posted(door: serving.Door, *parts: bytes | None, kind: str) -> tuple[int, dict[str, Any]]:
    waiting, answer = list(parts), []

    async def receive() -> dict[str, Any]:
        part = waiting.pop(0) if waiting else None
        if part is None:
            await asyncio.sleep(3600)
        return {"type": "http.request", "body": part, "more_body": bool(waiting)}

    async def send(message: dict[str, Any]) -> None:
        answer.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/invocations", "raw_path": b"/invocations", "query_string": b"", "root_path": "",
        "headers": [(b"content-type", kind.encode())], "server": ("here", 80), "client": ("there", 1),
    }  # fmt: skip
    await door(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in answer)
    return answer[0]["status"], json.loads(body) if body.startswith(b"{") else {"message": body.decode()}


def test_a_long_request_is_refused_before_it_is_parsed(door: serving.Door) -> None:
    labels = json.dumps({"inputs": {"label": [1] * 100_000}}).encode()
    for parts in ([labels], [labels[start : start + 1000] for start in range(0, len(labels), 1000)]):
        status, answer = post(door, *parts)
        assert status == 413
        assert answer["message"] == "a request may have 262,144 bytes, which are more than 1,000 labels"
    whole = json.dumps({"dataframe_records": [{"label": 7, "seed": 123_456_789}] * 1000}).encode()
    assert post(door, whole[:100], whole[100:])[0] == 200
    assert post(door, json.dumps({"inputs": {"label": [1] * 1001}}).encode())[1]["message"] == (
        "a request may have 1,000 labels, not 1,001"
    )


def test_no_other_kind_of_request_is_read(door: serving.Door) -> None:
    assert post(door, b"label\n7\n", kind="text/csv")[0] == 415
    assert post(door, b"label\n7\n", kind="application/vnd.apache.parquet")[0] == 415


def test_no_more_requests_are_taken_than_can_be_answered(door: serving.Door) -> None:
    async def many() -> list[int]:
        waiting = [asyncio.ensure_future(posted(door, None, kind=JSON)) for _ in range(serving.AT_ONCE)]
        await asyncio.sleep(0)  # each has been read as far as it has come
        refused = await posted(door, b'{"inputs": {"label": [1]}}', kind=JSON)
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        taken = await posted(door, b'{"inputs": {"label": [1]}}', kind=JSON)
        return [refused[0], taken[0]]

    assert asyncio.run(many()) == [503, 200]


def test_a_request_that_does_not_come_is_given_up(door: serving.Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "READING_S", 0.01)
    assert post(door, b'{"inputs"', None)[0] == 408


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("3.5", "a label must be a whole number, not 3.5"),
        ("-1", "labels must be one or more of 0 … 9, not -1"),
        ("true", "a label must be a whole number, not True"),
        ("null", "a label must be a whole number, not "),
        ("NaN", "a label must be a whole number, not "),
        ("1e999", "a label must be a whole number, not inf"),
        ("1e300", "labels must be one or more of 0 … 9, not 1000000"),
        ("9" * 40, "labels must be one or more of 0 … 9, not 9999999"),
        ("[1, [2]]", "a label must be a whole number, not "),
        ('{"a": 1}', "a label must be a whole number, not "),
    ],
)
@pytest.mark.parametrize("form", ['{{"inputs": {{"label": [{}, 1]}}}}', '{{"dataframe_records": [{{"label": {}}}]}}'])
def test_a_wrong_label_is_one_sentence(door: serving.Door, form: str, label: str, reason: str) -> None:
    status, answer = post(door, form.format(label).encode())
    assert (status, answer["message"][: len(reason)]) == (400, reason)
    assert "\n" not in answer["message"]


@pytest.mark.parametrize("columns", ['["label", []]', '["label", {"a": 1}]', '[["label"], "seed"]', "7", "null"])
def test_wrong_columns_are_one_sentence(door: serving.Door, columns: str) -> None:
    body = f'{{"dataframe_split": {{"columns": {columns}, "data": [[7, 5], [7, 5]]}}}}'
    status, answer = post(door, body.encode())
    assert status == 400
    assert answer["message"]
    assert "Traceback" not in str(answer)


REQUESTS = [
    b'{"inputs": {"label": [7, 7, 3], "seed": 5}}',
    b'{"inputs": {"label": [7]}, "params": {"seed": 5}}',
    b'{"dataframe_split": {"columns": ["label", "seed"], "data": [[7, 5], [7, 5]]}}',
    b'{"dataframe_records": [{"label": 7, "seed": 5}, {"label": 7}]}',
]


def test_whatever_comes_is_answered(door: serving.Door, fuzzed: Callable[..., None]) -> None:
    def check(body: bytes) -> None:
        status, answer = post(door, body)
        assert status in (200, 400), answer
        assert "Traceback" not in str(answer)
        assert "stack_trace" not in answer

    fuzzed(REQUESTS, check)
