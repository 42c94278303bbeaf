"""The whole way on the example shop, from raw data to features online: `make demo`.

Each step is a command that you could type yourself, and is shown before it runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import duckdb

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
    try:
        demo()
    except FeatureStoreError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


def demo() -> None:
    """Build the example, materialize it, and show what can be read."""
    started = time.monotonic()

    headline("Raw data of a small shop", "python dbt_project/shop_data.py")
    print(indent(run([sys.executable, str(EXAMPLE / "shop_data.py")], keep=True)))

    headline("Features, training set and tests: all of it is dbt", "cd dbt_project && dbt deps && dbt build")
    folders = ["--project-dir", ".", "--profiles-dir", "."]
    run([str(BIN / "dbt"), "--quiet", "deps", *folders], cwd=EXAMPLE)
    told = run([str(BIN / "dbt"), "--no-use-colors", "build", *folders], cwd=EXAMPLE, keep=True)
    print(indent(summary(told)))

    redis_url = os.environ.get(REDIS_VARIABLE) or private_redis()

    headline("The latest features of everybody to Redis", "materialize --project-dir dbt_project")
    run([str(BIN / "materialize"), "--project-dir", str(EXAMPLE)])

    user_id, item_id = a_busy_user()
    show_online(redis_url, user_id, item_id)
    show_training_set()

    seconds = time.monotonic() - started
    print(f"\nThat was all of it, in {seconds:.0f} seconds. Three commands to try next:\n")
    for command in (
        "feature-store list --project-dir dbt_project",
        f"feature-store online recommendation -e user_id={user_id},item_id={item_id} --project-dir dbt_project",
        "feature-store training --service recommendation --project-dir dbt_project"
        ' --spine "select * from bought_after_view limit 5"',
    ):
        print(f"    {shown(BIN)}/{command}")
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


def a_busy_user() -> tuple[int, int]:
    """A user who buys a lot, and an item she has had much to do with."""
    with duckdb.connect(str(EXAMPLE / "shop.duckdb"), read_only=True) as warehouse:
        (user_id,) = warehouse.execute(
            "select user_id from user_features order by purchase_count_30d desc, user_id limit 1"
        ).fetchone()
        (item_id,) = warehouse.execute(
            "select item_id from user_item_affinity where user_id = ?"
            " order by event_timestamp::date desc, affinity_score desc, item_id limit 1",
            [user_id],
        ).fetchone()
    return user_id, item_id


def show_online(redis_url: str, user_id: int, item_id: int) -> None:
    """What a request handler reads: Redis alone, with no dbt and no warehouse."""
    from materializer import FeatureStore

    headline("Online: what a recommender reads in a request, from Redis alone", None)
    print("    from materializer import FeatureStore")
    # A URL that was given may hold a password.
    named = f'os.environ["{REDIS_VARIABLE}"]' if os.environ.get(REDIS_VARIABLE) else f'"{redis_url}"'
    print(f'    store = FeatureStore(redis_url={named}, namespace="shop.dev")')
    print("    store.get_online_features(")
    print(f'        features="recommendation", entity_rows=[{{"user_id": {user_id}, "item_id": {item_id}}}]')
    print("    ).to_dict()\n")
    store = FeatureStore(redis_url=redis_url, namespace="shop.dev")
    found = store.get_online_features(
        features="recommendation", entity_rows=[{"user_id": user_id, "item_id": item_id}]
    ).to_dict()
    width = max(len(name) for name in found)
    for name, values in found.items():
        print(f"    {name:<{width}}  {values[0]}")


def show_training_set() -> None:
    """Five labels with the features as they were known at their moments."""
    from materializer import FeatureStore

    headline("Training: five labels, each with the features as they were known at its moment", None)
    print('    store = FeatureStore(project_dir="dbt_project")')
    print("    store.get_historical_features(labels, features=[")
    for feature in TRAINING_FEATURES:
        print(f'        "{feature}",')
    print("    ]).to_df()\n")
    store = FeatureStore(project_dir=EXAMPLE)
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
