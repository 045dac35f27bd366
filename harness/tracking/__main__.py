"""python -m harness.tracking sync, reap, grant, page or agent."""

import sys
from typing import Annotated

import tyro

from harness import cli
from harness.bounds import Natural, Seconds, Within
from harness.errors import InputError
from harness.tracking.addresses import default_uri, ui_of, user_of
from harness.tracking.local import HEARTBEAT_S

LongEnough = Annotated[float, Within(float, 2 * HEARTBEAT_S)]
"""A living run may be silent for less."""


def sync(tracking_uri: str | None = None, json: cli.AsJson = False) -> None:
    """Send what this folder's runs have said and the store does not have; any number of times.

    Args:
        tracking_uri: MLflow store; by default the environment's MLFLOW_TRACKING_URI, else sqlite under outputs/
    """
    from harness.tracking import closing

    with cli.answer(json) as answer:
        closing.sync(tracking_uri, answer)


def reap(
    older_than: LongEnough = 300.0,
    all_users: bool = False,
    tracking_uri: str | None = None,
    json: cli.AsJson = False,
) -> None:
    """Close as KILLED the runs that say RUNNING and have shown no life for a while; resume opens them again.

    An agent closes the runs of its own host by itself: this is for those of a host that died.

    Args:
        older_than: seconds without a sign of life; a living run gives one every half minute
        all_users: whether other people's runs are closed too; by default one's own alone
        tracking_uri: MLflow store; by default the environment's MLFLOW_TRACKING_URI, else sqlite under outputs/
    """
    from harness.tracking import closing

    with cli.answer(json) as answer:
        closing.reap(older_than, all_users, tracking_uri, answer)


def grant(
    user: Annotated[str, tyro.conf.Positional],
    experiment: Annotated[str, tyro.conf.Positional],
    tracking_uri: str | None = None,
) -> None:
    """As a team's administrator: let a user write to an experiment, which is made where there is none.

    Args:
        user: the name that logs in
        experiment: the experiment's name, such as NAME/generators
        tracking_uri: the team's server; by default the environment's MLFLOW_TRACKING_URI
    """
    from harness.tracking import experiments, stores

    if not user_of(uri := tracking_uri or default_uri()):
        raise InputError("only a server's administrator grants: give --tracking-uri http(s)://HOST:PORT, and set "
                         "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")  # fmt: skip
    with stores.answering(uri):
        experiments.grant(user, experiment, stores.client(uri))
    print(f"{user} may write to {experiment}")


def page(tracking_uri: str | None = None) -> None:
    """Say where MLflow's UI shows the newest comparison, and the curves of its generators.

    Args:
        tracking_uri: MLflow store; by default the environment's MLFLOW_TRACKING_URI, else sqlite under outputs/
    """
    from harness import tracking
    from harness.tracking import views

    uri = tracking_uri or default_uri()
    for run in tracking.read_runs("tags.kind = 'comparison'", tracking_uri=uri)[:1].to_dict("records"):
        known = tracking.client(uri).get_run(run["run_id"]).info.experiment_id
        # Without the question MLflow (3.17) takes its runs for agents'.
        address = f"{ui_of(uri)}/#/experiments/{known}/runs/{run['run_id']}?workflowType=machine_learning"
        print(f"the newest comparison, {run['name']}: {address}")
        for name, of_view in views.addresses(known, uri).items():
            print(f"{name[0].lower()}{name[1:]}: {of_view}")


def agent(idle: Seconds = 30.0, lock: Natural | None = None) -> None:
    """Send what this folder's runs say while they go on. The first run starts it; there is one per host and folder.

    Args:
        idle: seconds without work after which it ends
        lock: of who starts it: the open file whose lock it inherits
    """
    from harness.tracking import agent

    agent.serve(idle, lock)


COMMANDS = {"sync": sync, "reap": reap, "grant": grant, "page": page, "agent": agent}


def usage() -> str:
    """What each command does: the first line of its words."""
    rows = [f"  {name:6} {(command.__doc__ or '').splitlines()[0]}" for name, command in COMMANDS.items()]
    return "\n".join([f"usage: python -m harness.tracking {{{','.join(COMMANDS)}}} [--help]", "", *rows])


if __name__ == "__main__":
    word = sys.argv.pop(1) if sys.argv[1:] else ""
    if word in ("-h", "--help"):
        print(usage())
    elif word in COMMANDS:
        sys.argv[0] = f"harness.tracking {word}"
        cli.main(COMMANDS[word])
    else:
        wrong = f"unknown command {word!r}" if word else "no command"
        print(f"harness.tracking: {wrong}; known are {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
