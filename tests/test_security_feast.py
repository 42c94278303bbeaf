"""A Feast repository of a stranger's: its code is not run, files outside are not read, and its texts stay texts in dbt."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from materializer.feast import from_feast
from materializer.feast.properties import inert
from materializer.project import dbt_package
from materializer.project.sandbox import sandbox
from tests.support.dbt import DbtProject

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
    environment = sandbox(extensions=["jinja2.ext.do"], keep_trailing_newline=True)
    return environment.from_string(text).render(known | dict.fromkeys(names, forbidden))


@pytest.mark.parametrize("text", TEXTS)
def test_inert_text_is_itself_after_jinja(text: str) -> None:
    assert rendered(inert(text)) == text
    assert rendered(f"a {inert(text)}") == f"a {text}"


def repository(folder: Path, body: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "feature_store.yaml").write_text("project: demo\nprovider: local\n")
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
def test_no_text_of_a_repository_means_anything_to_dbt(tmp_path: Path, text: str) -> None:
    _, written = from_feast(repository(tmp_path / "repo", hostile(text)), "shop")
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


def test_dbt_itself_gives_back_every_text(tmp_path: Path) -> None:
    text = TEXTS[1] + TEXTS[5] + TEXTS[8]
    _, written = from_feast(repository(tmp_path / "repo", hostile(text)), "shop")
    project = DbtProject(tmp_path / "shop")
    project.write(written.files)
    dbt_package.renew_copy(project.folder)
    project.dbt("deps")
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
def test_a_query_that_is_not_one_is_written_but_not_enabled(tmp_path: Path, query: str) -> None:
    _, written = from_feast(
        repository(tmp_path / "repo", f"""
e = Entity(name="id", join_keys=["id"])
s = PostgreSQLSource(name="s", query={query!r}, timestamp_field="at")
v = FeatureView(name="v", entities=[e], source=s, schema=[Field(name="x", dtype=Int64)])
"""), "shop")  # fmt: skip
    assert [model.enabled for model in written.models] == [False]
    assert "enabled: false" in written.files["FROM_FEAST.md"]


LEAKS = {
    "a file above": "text = open('../secret.json').read()",
    "a file above as JSON": "text = json.load(open('../secret.json'))['key']",
    "a file above by Path": "text = Path('../secret.json').read_text()",
    "a file by a link": "text = Path('link.json').read_text()",
    "a module above": "from ..secret import text",
    "attributes by format": "text = '{0.__class__.__new__.__globals__[os].environ}'.format(Path('x'))",
    "an item by format": "text = '{0[0]}'.format([os.environ])",
    "a program": "os.system('touch MARK'); text = 'x'",
    "a program by a name": "text = __import__('os').popen('touch MARK').read()",
    "eval": "text = eval('open(\"../secret.json\").read()')",
    "subclasses": "text = str(().__class__.__base__.__subclasses__())",
    "a huge width": "text = '{:{}}'.format('x', 10 ** 9)",
    "a huge text": "text = 'a' * 10 ** 6; text = text.replace('a', text).replace('a', text)",
    "a huge join": "text = ('a' * 10 ** 6).join(['b'] * 10 ** 6)",
    "a huge range": "text = str(sum(range(10 ** 12)))",
    "for ever": "while True: pass",
}


@pytest.mark.parametrize("body", LEAKS.values(), ids=LEAKS)
def test_code_of_a_repository_is_not_run_and_reads_nothing_else(
    tmp_path: Path, body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET", "s3cret-of-the-environment")
    (tmp_path / "secret.json").write_text('{"key": "s3cret-of-a-file"}')
    (tmp_path / "secret.py").write_text("text = 's3cret-of-a-module'")
    folder = repository(tmp_path / "repo", f"""
{body.replace("MARK", str(tmp_path / "mark"))}
e = Entity(name="id", join_keys=["id"])
v = FeatureView(name="v", entities=[e], source=FileSource(name="s", path="data/x.parquet", timestamp_field="at"),
                schema=[Field(name="x", dtype=Int64)], description=text)
w = FeatureView(name="w", entities=[e], source=FileSource(name="s2", path="data/x.parquet", timestamp_field="at"),
                schema=[Field(name="x", dtype=Int64)])
""")  # fmt: skip
    (folder / "link.json").symlink_to(tmp_path / "secret.json")
    try:
        _, written = from_feast(folder, "shop")
    except Exception as error:
        assert type(error).__module__.startswith("materializer")
        return
    assert not any("s3cret" in text for text in written.files.values())
    assert not (tmp_path / "mark").exists()


def test_files_that_a_repository_names_elsewhere_are_not_looked_into(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "waits.parquet")  # whoever opens it, waits for ever
    (tmp_path / "many").mkdir()
    folder = repository(tmp_path / "repo", f"""
e = Entity(name="id", join_keys=["id"])
a = FeatureView(name="a", entities=[e], source=FileSource(name="s", path="{tmp_path}/waits.parquet", timestamp_field="at"),
                schema=[Field(name="x", dtype=Int64)])
b = FeatureView(name="b", entities=[e], source=FileSource(name="t", path="../waits.parquet", timestamp_field="at"),
                schema=[Field(name="x", dtype=Int64)])
c = FeatureView(name="c", entities=[e], source=FileSource(name="u", path="link.parquet", timestamp_field="at"),
                schema=[Field(name="x", dtype=Int64)])
d = FeatureView(name="d", entities=[e], source=FileSource(name="r", path="/", timestamp_field="at"),
                schema=[Field(name="x", dtype=Int64)])
""")  # fmt: skip
    (folder / "link.parquet").symlink_to(tmp_path / "waits.parquet")
    (folder / "linked.py").symlink_to(tmp_path / "waits.parquet")
    (folder / ".feastignore").write_text("../**\n/etc/*\n**/nothing\n")
    _, written = from_feast(folder, "shop")
    assert written.files["FROM_FEAST.md"].count("lies outside of the repository") == 4


def test_the_report_holds_no_markup_of_the_repository(tmp_path: Path) -> None:
    text = "`x` | ![p](http://evil.example/p.png) <script>alert(1)</script> [l](javascript:x)\n# Head"
    _, written = from_feast(repository(tmp_path / "repo", hostile(text)), "shop")
    report = written.files["FROM_FEAST.md"]
    assert "<script" not in report
    assert not re.search(r"\]\((http|javascript)", re.sub(r"`[^`]*`", "", report))
    assert "\n# Head" not in report
