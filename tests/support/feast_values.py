"""What Feast answers in one of its repositories: a script for Feast's own Python.

    python feast_values.py init TEMPLATE FOLDER     Feast's own template, as `feast init` writes it
    python feast_values.py JOB.json                 applies, joins, materializes and reads

A job names the repository's folder, a Parquet file of labels, the features, and the rows to read online; the answers go
beside it as ``training.parquet`` (of everything known now), ``known.parquet`` (of what was known then), ``online.json``.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from feast import FeatureStore
from feast.repo_config import load_repo_config
from feast.repo_operations import apply_total, init_repo


def main(job_file: Path) -> None:
    job = json.loads(job_file.read_text())
    folder = Path(job["repository"])
    os.chdir(folder)
    sys.path.append(str(folder))
    apply_total(load_repo_config(folder, folder / "feature_store.yaml"), folder, skip_source_validation=False)
    store = FeatureStore(repo_path=str(folder))
    for name, known in {"training": False, "known": True}.items():
        spine = pd.read_parquet(job["spine"])
        answer = store.get_historical_features(
            spine, features=job["features"], full_feature_names=True, filter_by_created_timestamp=known
        )
        pq.write_table(answer.to_arrow(), job_file.with_name(f"{name}.parquet"))
    now = datetime.now(timezone.utc)
    views = list(dict.fromkeys(name.partition(":")[0] for name in job["features"]))
    store.materialize(now - timedelta(days=3000), now, feature_views=views)
    online = store.get_online_features(job["features"], entity_rows=job["rows"], full_feature_names=True).to_dict()
    job_file.with_name("online.json").write_text(json.dumps(online, default=str))


if __name__ == "__main__":
    if sys.argv[1] == "init":
        init_repo(Path(sys.argv[3]).name, sys.argv[2], sys.argv[3])
    else:
        main(Path(sys.argv[1]))
