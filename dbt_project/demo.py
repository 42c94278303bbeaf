"""The whole way on the example shop, from raw data to features online: `make demo`, or `make demo TARGET=postgres`
or `TARGET=spark`.

Each step is a command that you could type yourself, and is shown before it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from private_spark import REMOTE as SPARK_REMOTE

from materializer.errors import FeatureStoreError

EXAMPLE = Path(__file__).resolve().parent
ROOT = EXAMPLE.parent
BIN = Path(sys.executable).parent
REDIS_VARIABLE = "FEATURE_STORE_REDIS_URL"

TRAINING_FEATURES = [
    "user_features:age",
    "user_features:purchase_count_7d",
    "item_features:category",
    "item_features:popularity_score",
    "user_item_affinity:item_views_30d",
]
LABELS = """
    select user_id, item_id, event_timestamp, bought
    from bought_after_view
    order by event_timestamp desc, user_id, item_id
    limit 5
"""


def main() -> int:
    """Run the demo; 0 where all went well."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--target", default="dev", help="a target of dbt_project/profiles.yml (default dev, a DuckDB file)"
    )
    try:
        demo(parser.parse_args().target)
    except FeatureStoreError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


def demo(target: str) -> None:
    """Build the example, materialize it, and show what can be read."""
    started = time.monotonic()

    headline("Raw data of a small shop", "python dbt_project/shop_data.py")
    print(indent(run([sys.executable, str(EXAMPLE / "shop_data.py")], keep=True)))

    if target == "postgres":
        headline("A private PostgreSQL with that data", "python dbt_project/private_postgres.py start")
        print(indent(run([sys.executable, str(EXAMPLE / "private_postgres.py"), "start"], keep=True)))
    if target == "spark":
        headline("A private Spark with that data", "python dbt_project/private_spark.py start")
        print(indent(run([sys.executable, str(EXAMPLE / "private_spark.py"), "start"], keep=True)))
        os.environ["SPARK_REMOTE"] = SPARK_REMOTE  # what all steps from here on read
        print(f"    $ export SPARK_REMOTE={SPARK_REMOTE}")

    named = "" if target == "dev" else f" --target {target}"
    headline("Features, training set and tests: all of it is dbt", f"cd dbt_project && dbt deps && dbt build{named}")
    folders = ["--project-dir", ".", "--profiles-dir", ".", "--target", target]
    run([str(BIN / "dbt"), "--quiet", "deps", *folders], cwd=EXAMPLE)
    told = run([str(BIN / "dbt"), "--no-use-colors", "build", *folders], cwd=EXAMPLE, keep=True)
    print(indent(summary(told)))

    redis_url = os.environ.get(REDIS_VARIABLE) or private_redis()

    headline("The latest features of everybody to Redis", f"materialize --project-dir dbt_project{named}")
    run([str(BIN / "materialize"), "--project-dir", str(EXAMPLE), "--target", target])

    user_id, item_id = a_busy_user(target)
    show_online(redis_url, user_id, item_id, target)
    show_training_set(target)

    seconds = time.monotonic() - started
    print(f"\nThat was all of it, in {seconds:.0f} seconds. Three commands to try next:\n")
    if target == "spark":
        print(f"    export SPARK_REMOTE={SPARK_REMOTE}")
    for command in (
        f"feature-store catalog open --project-dir dbt_project{named}",
        f"feature-store online recommendation -e user_id={user_id},item_id={item_id} --project-dir dbt_project{named}",
        f"feature-store training --service recommendation --project-dir dbt_project{named}"
        ' --spine "select * from bought_after_view limit 5"',
    ):
        print(f"    {shown(BIN)}/{command}")
    if target in ("postgres", "spark"):
        print(f"\n{'PostgreSQL' if target == 'postgres' else 'Spark'} goes on running, too.")
    if not os.environ.get(REDIS_VARIABLE):
        print("\nRedis goes on running, with its data in dbt_project/.redis/. Stop it with: make stop")
    print(f"\nA project of your own begins with: {shown(BIN)}/feature-store init ../my_features")


def private_redis() -> str:
    """The URL of the example's own server, started or found again."""
    headline(
        f"A private Redis (you can name another in {REDIS_VARIABLE})",
        "feature-store redis start --project-dir dbt_project",
    )
    command = [str(BIN / "feature-store"), "redis", "start", "--project-dir", str(EXAMPLE), "--output", "json"]
    started = json.loads(run(command, keep=True))
    print(indent(f"{'started' if started['started'] else 'found again'} at {started['url']}"))
    return started["url"]


def a_busy_user(target: str) -> tuple[int, int]:
    """A user who buys a lot, and an item she has had much to do with."""
    from materializer.project.settings import load_project
    from materializer.warehouse import open_warehouse

    with open_warehouse(load_project(EXAMPLE, target=target)) as warehouse:
        (user,) = warehouse.query(
            "select user_id from user_features order by purchase_count_30d desc, user_id limit 1"
        ).to_pylist()
        (item,) = warehouse.query(
            f"select item_id from user_item_affinity where user_id = {user['user_id']}"
            " order by cast(event_timestamp as date) desc, affinity_score desc, item_id limit 1"
        ).to_pylist()
    return user["user_id"], item["item_id"]


def show_online(redis_url: str, user_id: int, item_id: int, target: str) -> None:
    """What a request handler reads: Redis alone, with no dbt and no warehouse."""
    from materializer import FeatureStore

    headline("Online: what a recommender reads in a request, from Redis alone", None)
    print("    from materializer import FeatureStore")
    # A URL that was given may hold a password.
    named = f'os.environ["{REDIS_VARIABLE}"]' if os.environ.get(REDIS_VARIABLE) else f'"{redis_url}"'
    print(f'    store = FeatureStore(redis_url={named}, namespace="shop.{target}")')
    print("    store.get_online_features(")
    print(f'        features="recommendation", entity_rows=[{{"user_id": {user_id}, "item_id": {item_id}}}]')
    print("    ).to_dict()\n")
    store = FeatureStore(redis_url=redis_url, namespace=f"shop.{target}")
    found = store.get_online_features(
        features="recommendation", entity_rows=[{"user_id": user_id, "item_id": item_id}]
    ).to_dict()
    width = max(len(name) for name in found)
    for name, values in found.items():
        print(f"    {name:<{width}}  {values[0]}")


def show_training_set(target: str) -> None:
    """Five labels with the features as they were known at their moments."""
    from materializer import FeatureStore

    headline("Training: five labels, each with the features as they were known at its moment", None)
    named = "" if target == "dev" else f', target="{target}"'
    print(f'    store = FeatureStore(project_dir="dbt_project"{named})')
    print("    store.get_historical_features(labels, features=[")
    for feature in TRAINING_FEATURES:
        print(f'        "{feature}",')
    print("    ]).to_df()\n")
    store = FeatureStore(project_dir=EXAMPLE, target=target)
    frame = store.get_historical_features(LABELS, features=TRAINING_FEATURES).to_df()
    # Whole seconds are enough for the eye.
    frame["event_timestamp"] = frame["event_timestamp"].astype(str).str.slice(0, 19)
    print(indent(frame.to_string(index=False, float_format="{:.3f}".format)))


def run(command: list[str], cwd: Path = ROOT, keep: bool = False) -> str:
    """Run a step; where it fails, show all it said and end. With `keep` its output is returned and not shown."""
    sys.stdout.flush()
    step = subprocess.run(
        command,
        cwd=cwd,
        stdout=subprocess.PIPE if keep else None,
        stderr=subprocess.STDOUT if keep else None,
        text=True,
    )
    if step.returncode != 0:
        if keep:
            print(step.stdout)
        sys.exit(f"\nThe step `{Path(command[0]).name}` failed (exit code {step.returncode}): see above.")
    return step.stdout or ""


def summary(told: str) -> str:
    """The lines of dbt's output that say what was built and how it went, without the clock in front."""
    lines = [line.partition("  ")[2].strip() for line in told.splitlines()]
    return "\n".join(line for line in lines if line.startswith(("Finished running", "Done.")))


def headline(title: str, command: str | None) -> None:
    """What comes now, and the command that does it."""
    print(f"\n== {title}")
    if command:
        print(f"    $ {command}")


def shown(path: Path) -> str:
    """A path as one would type it here."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def indent(text: str) -> str:
    """Text set in under its headline."""
    return "\n".join(f"    {line}" for line in text.splitlines())


if __name__ == "__main__":
    sys.exit(main())
