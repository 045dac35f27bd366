"""python -m harness.dashboard: studies in the browser, as they run: Optuna's dashboard, on loopback.

Not by its own command, whose lock on a journal is not the one that workers take, and which knows no grpc://.
"""

from harness import cli, storages
from harness.errors import InputError

HOST = "127.0.0.1"


def serve(storage: str | None = None, port: int = 8080) -> None:
    """Show the studies of a storage until Ctrl-C.

    Args:
        storage: file, database or server of the studies, as for experiments/tune.py; by default under outputs/
        port: on 127.0.0.1
    """
    try:
        import optuna_dashboard
    except ImportError as error:
        raise InputError("the dashboard is not installed: pip install 'synthetic-gain[studies]'") from error
    opened = storages.open_storage(storage or storages.default_storage(), create=False)
    try:
        optuna_dashboard.run_server(opened, host=HOST, port=port)
    except OSError as error:
        raise InputError(f"--port {port} cannot be listened on ({error.strerror}); give another") from error


if __name__ == "__main__":
    cli.main(serve)
