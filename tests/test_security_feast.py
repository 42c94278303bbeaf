"""A Feast repository: this program opens none of its files, tells none of its secrets, and its texts stay texts in dbt."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from materializer.feast import from_feast
from materializer.feast.ask import SCRIPT
from materializer.feast.properties import inert
from materializer.project import dbt_package
from materializer.project.sandbox import Sandbox
from tests.support.dbt import DbtProject, install

CODE = "{{ run_query('touch') }}"
TEXTS = [
    CODE,
    "{% endraw %}" + CODE + "{% raw %}",
    "{%- endraw -%}" + CODE,
    "{% endraw %}{% do run_query('touch') %}",
    "{" + CODE + "}",
    "{#" + CODE,
    "#}" + CODE + "{#",
    "{{ '{{' }}" + CODE,
    "{{ '{' }}" + CODE,
    "{% set x = run_query('touch') %}",
    "{{{{{%%{{##}}",
]


def rendered(text: str) -> str:
    """As dbt renders it, if nothing is called."""

    def forbidden(*args: Any, **kwargs: Any) -> str:
        raise AssertionError(f"called with {args} {kwargs}")

    known = {"var": lambda name: "/repo", "source": lambda *names: ".".join(names), "ref": lambda name: name,
             "target": {"schema": "main"}, "config": lambda **settings: ""}  # fmt: skip
    names = ("run_query", "env_var", "doc", "adapter", "load_result", "log", "modules")
    environment = Sandbox(extensions=["jinja2.ext.do"], keep_trailing_newline=True)
    return environment.from_string(text).render(known | dict.fromkeys(names, forbidden))


@pytest.mark.parametrize("text", TEXTS)
def test_inert_text_is_itself_after_jinja(text: str) -> None:
    assert rendered(inert(text)) == text
    assert rendered(f"a {inert(text)}") == f"a {text}"


def repository(folder: Path, body: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "feature_store.yaml").write_text("project: demo\nprovider: local\nregistry: registry.db\n")
    (folder / "views.py").write_text(
        "import json, os\nfrom pathlib import Path\nfrom datetime import timedelta\n"
        "from feast import BigQuerySource, Entity, FeatureService, FeatureView, Field, FileSource\n"
        "from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import PostgreSQLSource\n"
        f"from feast.types import Int64, Float64\n{body}\n"
    )
    return folder


def hostile(text: str) -> str:
    """A repository that says `text` wherever Feast lets it say something."""
    t = repr(text)
    return f"""
text = {t}
user = Entity(name="user", join_keys=["id" + text], description=text, tags={{text: text}})
files = FileSource(name="files" + text, path="data/" + text + ".parquet", timestamp_field="at" + text,
                   created_timestamp_column="made" + text, description=text, tags={{text: text}}, owner=text)
table = PostgreSQLSource(name="table" + text, table=text + "." + text + "." + text, timestamp_field="at", description=text)
query = PostgreSQLSource(name="query", query="select 1 as id, now() as at, '" + text.replace("'", "''") + "' as x",
                         timestamp_field="at")
views = [FeatureView(name=source.name[:5] + text, entities=[user], ttl=timedelta(days=1), source=source,
                     schema=[Field(name="age" + text, dtype=Int64, description=text, tags={{text: text}}),
                             Field(name="x", dtype=Float64)],
                     description=text, owner=text, tags={{"team" + text: text}}) for source in [files, table, query]]
first, second, third = views
service = FeatureService(name="service" + text, features=[first, second.with_name("other" + text)], description=text,
                         tags={{text: text}}, owner=text)
"""


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for part in value.values() for text in strings(part)]  # dbt does not render keys
    if isinstance(value, list):
        return [text for part in value for text in strings(part)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("text", TEXTS)
def test_no_text_of_a_repository_means_anything_to_dbt(tmp_path: Path, text: str, feast_python: str) -> None:
    _, written = from_feast(repository(tmp_path / "repo", hostile(text)), "shop", feast_python)
    assert len(written.models) == 4
    seen = 0
    for name, content in written.files.items():
        if name.endswith((".yml", ".yaml")):
            for one in strings(yaml.safe_load(content)):
                seen += text in rendered(one)
        elif name.endswith(".sql"):
            seen += text.replace("'", "''") in rendered(content) or text.replace('"', '""') in rendered(content)
    assert seen > 20  # as itself, and not because it was left out
    for path in written.files:
        assert re.fullmatch(r"[\w./-]+", path)
        assert ".." not in Path(path).parts


def test_dbt_itself_gives_back_every_text(tmp_path: Path, feast_python: str) -> None:
    text = TEXTS[1] + TEXTS[5] + TEXTS[8]
    _, written = from_feast(repository(tmp_path / "repo", hostile(text)), "shop", feast_python)
    project = DbtProject(tmp_path / "shop")
    project.write(written.files)
    dbt_package.renew_copy(project.folder)
    install(project)
    project.dbt("parse")
    manifest = json.loads((project.folder / "target" / "manifest.json").read_text())
    nodes = (*manifest["nodes"].values(), *manifest["sources"].values(), *manifest["exposures"].values())
    own = [node for node in nodes if node["package_name"] == "shop" and node["resource_type"] != "test"]
    assert {node["resource_type"] for node in own} == {"model", "source", "exposure"}
    assert [node["description"] for node in own] == [text] * len(own)
    models = [node for node in own if node["resource_type"] == "model"]
    for model in models:
        assert model["config"]["group"] == text
        assert model["config"]["meta"]["feature_view"]["entities"] == [f"id{text}"]
        assert model["config"]["meta"]["feature_view"]["tags"] == {f"team{text}": text}
        assert model["columns"][f"age{text}"]["description"] == text


@pytest.mark.parametrize(
    "query",
    [
        "select 1) as x; drop table y; select (1",
        "select 1); select 2 --",
        "select 1; select 2",
        "select (1",
        "select '1",
    ],
)
def test_a_query_that_is_not_one_is_written_but_not_enabled(tmp_path: Path, query: str, feast_python: str) -> None:
    _, written = from_feast(
        repository(tmp_path / "repo", f"""
e = Entity(name="id", join_keys=["id"])
s = PostgreSQLSource(name="s", query={query!r}, timestamp_field="at")
v = FeatureView(name="v", entities=[e], source=s, schema=[Field(name="x", dtype=Int64)])
"""), "shop", feast_python)  # fmt: skip
    assert [model.enabled for model in written.models] == [False]
    assert "enabled: false" in written.files["FROM_FEAST.md"]


PLUGIN = """
from feast.data_source import DataSource
from feast.protos.feast.core.DataSource_pb2 import DataSource as Proto
import json

class Lake(DataSource):
    def _to_proto_impl(self):
        said = {"table": "rides", "password": "s3cret-of-a-plugin", "path": None, "query": {"s3cret": 1}}
        return Proto(
            name=self.name, type=Proto.CUSTOM_SOURCE, timestamp_field="at",
            custom_options=Proto.CustomSourceOptions(configuration=json.dumps(said).encode()),
        )
    def source_type(self):
        return Proto.CUSTOM_SOURCE
    def get_table_column_names_and_types(self, config):
        raise RuntimeError(f"cannot connect with {config.online_store.connection_string}")
    def get_table_query_string(self):
        return ""
    @staticmethod
    def from_proto(proto):
        return Lake(name=proto.name)
    @staticmethod
    def source_datatype_to_feast_value_type():
        return None
    def validate(self, config):
        pass

e = Entity(name="id", join_keys=["id"])
lake = Lake(name="lake", timestamp_field="at")
u = FeatureView(name="u", entities=[e], source=lake, schema=[Field(name="x", dtype=Int64)])
v = FeatureView(name="v", entities=[e], source=lake)
"""
YAML = """
project: demo
provider: local
registry: data/registry.db
offline_store: {type: file}
online_store: {type: redis, connection_string: "localhost,password=s3cret-of-the-store"}
auth: {type: no_auth}
"""


def test_no_secret_of_a_repository_is_handed_over(
    tmp_path: Path, feast_python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of feature_store.yaml, of the environment, of a source's connection, of an error's text: not even to this program."""
    monkeypatch.setenv("A_SECRET", "s3cret-of-the-environment")
    folder = repository(tmp_path / "repo", PLUGIN)
    (folder / "feature_store.yaml").write_text(YAML)
    answer = subprocess.run([feast_python, SCRIPT, folder], capture_output=True, check=True).stdout
    told, view = [one for one in json.loads(answer)["objects"] if one["kind"] == "FeatureView"]
    assert view["columns_error"] == "RuntimeError" and "columns_error" not in told  # asked only where a view needs it
    assert view["proto"]["spec"]["batch_source"]["custom_options"] == {"table": "rides"}
    assert b"s3cret" not in answer
    _, written = from_feast(folder, "shop", feast_python)
    assert "source('feast_tables', 'lake')" in written.files["models/features/v.sql"]


def test_this_program_opens_no_file_of_a_repository(
    tmp_path: Path, feast_python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even feature_store.yaml: Feast reads it. What a view reads may be a pipe, on which any reader would wait."""
    folder = repository(tmp_path / "repo", """
e = Entity(name="id", join_keys=["id"])
v = FeatureView(name="v", entities=[e], source=FileSource(name="s", path="data/x.parquet", timestamp_field="at"),
                schema=[Field(name="x", dtype=Int64)])
""")  # fmt: skip
    answer = subprocess.run([feast_python, SCRIPT, folder], capture_output=True, check=True).stdout
    (tmp_path / "feast.json").write_bytes(answer)
    for path in ("feature_store.yaml", "views.py", "data/x.parquet"):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).unlink(missing_ok=True)
        os.mkfifo(folder / path)
    _, written = from_feast(tmp_path / "feast.json", "shop")
    assert [model.name for model in written.models] == ["v"]


def test_the_report_holds_no_markup_of_the_repository(tmp_path: Path, feast_python: str) -> None:
    text = "`x` | ![p](http://evil.example/p.png) <script>alert(1)</script> [l](javascript:x)\n# Head"
    _, written = from_feast(repository(tmp_path / "repo", hostile(text)), "shop", feast_python)
    report = written.files["FROM_FEAST.md"]
    assert "<script" not in report
    assert not re.search(r"\]\((http|javascript)", re.sub(r"`[^`]*`", "", report))
    assert "\n# Head" not in report
