"""The team's server behind nginx and TLS, as harness/tracking/README.md has it: from another name, with passwords."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from processes import PATIENCE_S, run
from servers import TeamServer, free_port, installed

from harness import tracking
from harness.errors import InputError

pytestmark = pytest.mark.long
NAME = "localhost"  # which the server is not called by itself: it is 127.0.0.1


def programs() -> None:
    for program in ("nginx", "openssl"):
        if not shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin"):
            raise InputError(f"a server behind TLS needs {program}")


CONFIGURATION = """
daemon off; pid {place}/nginx.pid; error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;
  uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {place}/cert.pem; ssl_certificate_key {place}/key.pem;
    client_max_body_size 0;
    location / {{
      proxy_pass {inside}; proxy_http_version 1.1; proxy_set_header Host $http_host;
      proxy_request_buffering off; proxy_max_temp_file_size 0;
    }}
  }}
}}
"""


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TeamServer, str, Path]]:
    """The server, its address from outside, and the certificate by which it is known."""
    installed(programs)
    place, port = tmp_path_factory.mktemp("nginx"), free_port()
    outside = f"https://{NAME}:{port}"
    server = TeamServer(
        tmp_path_factory.mktemp("team"),
        MLFLOW_SERVER_ALLOWED_HOSTS=f"{NAME}:{port}",
        MLFLOW_SERVER_CORS_ALLOWED_ORIGINS=outside,
    )
    server.start()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NAME}", "-addext",
         f"subjectAltName=DNS:{NAME}", "-keyout", place / "key.pem", "-out", place / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    (place / "nginx.conf").write_text(CONFIGURATION.format(place=place, port=port, inside=server.uri))
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin")
    assert nginx
    proxy = subprocess.Popen([nginx, "-p", place, "-c", place / "nginx.conf"])
    until = time.monotonic() + PATIENCE_S
    while status(outside, place / "cert.pem") != 401:
        assert proxy.poll() is None
        assert time.monotonic() < until, "no answer through the proxy"
        time.sleep(0.1)
    yield server, outside, place / "cert.pem"
    proxy.terminate()
    proxy.wait(60)
    server.stop()


def status(address: str, certificate: Path, **asked: object) -> int:
    """The code of an answer; 0 for none."""
    try:
        where = f"{address}/api/2.0/mlflow/experiments/search?max_results=1"
        return requests.get(where, verify=str(certificate), timeout=30, **asked).status_code  # type: ignore[arg-type]
    except requests.exceptions.SSLError:
        raise
    except requests.exceptions.ConnectionError:
        return 0


def test_a_training_goes_through_tls_with_its_model(
    door: tuple[TeamServer, str, Path], empty_outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, outside, certificate = door
    shutil.copytree(empty_outputs / "judges", tmp_path / "outputs" / "judges")
    settings = server.credentials | {"REQUESTS_CA_BUNDLE": str(certificate), "MLFLOW_TRACKING_URI": outside}
    flags = ("--n-real", "100", "--steps", "20", "--num-synthetic", "100")
    done = run(tmp_path, "vae.py", *flags, **settings)
    assert done.returncode == 0, done.stderr
    assert f"page: {outside}/#/" in done.stdout
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    (found,) = tracking.read_runs("tags.kind = 'generator'", tracking_uri=outside).to_dict("records")
    assert found["status"] == "FINISHED"
    with tracking.fetched(found["run_id"], "samples.npz", outside) as path:
        assert path.stat().st_size > 1000


def test_who_has_no_password_or_another_name_is_refused(door: tuple[TeamServer, str, Path]) -> None:
    server, outside, certificate = door
    known = (server.user, server.password)
    assert status(outside, certificate) == 401
    assert status(outside, certificate, auth=known) == 200
    assert status(outside, certificate, auth=known, headers={"Host": "evil.example.org"}) == 403
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(outside, timeout=30)  # whose certificate nobody has signed
    posted = requests.post(
        f"{outside}/api/2.0/mlflow/experiments/create", json={"name": "from elsewhere"}, auth=known, timeout=30,
        verify=str(certificate), headers={"Origin": "https://evil.example.org"},
    )  # fmt: skip
    assert posted.status_code == 403
