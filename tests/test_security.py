"""What strangers wrote meets Jinja, paths, a terminal, processes and sockets, and stays text. See docs/security.md."""

from __future__ import annotations

import base64
import itertools
import json
import os
import pickle
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from unicodedata import category

import duckdb
import jinja2
import pyarrow as pa
import pytest
import redis
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from materializer import FeatureStore, FeatureStoreError, InputError
from materializer.catalog import webhook
from materializer.materialize import log, memory
from materializer.online import local as local_redis
from materializer.online.keys import registry_key
from materializer.printable import printable, printable_json
from materializer.project.definitions import Entity, Feature, FeatureView
from materializer.project.git import git_state
from materializer.project.revisions import commit_of
from materializer.project.sandbox import Sandbox, SecurityError
from materializer.project.yaml_files import load_yaml
from materializer.sql.drawings import as_dot, as_mermaid
from materializer.sql.lineage import Column, Edge, Lineage
from tests.support.command import Ran, assert_one_sentence, run
from tests.support.dbt import DbtProject, copy_of
from tests.support.shop import built_shop, profile_of

PACKAGE = Path(__file__).resolve().parents[1] / "materializer"


@pytest.fixture
def shop(tmp_path: Path) -> DbtProject:
    return copy_of(built_shop(), tmp_path / "shop")


def command(shop: DbtProject, *args: str) -> Ran:
    where = ("--project-dir", str(shop.folder), "--redis-url", "redis://127.0.0.1:1")
    return run("feature-store", *args, *where, cwd=shop.folder.parent)


# Jinja.

ESCAPES = [
    "{{ cycler.__init__.__globals__.os.system('touch MARK') }}",
    "{{ lipsum.__globals__['os'].popen('touch MARK').read() }}",
    "{{ (cycler|attr('__init__')|attr('__globals__')).os.system('touch MARK') }}",
    "{{ cycler['__init__']['__globals__'].os.system('touch MARK') }}",
    "{{ namespace.__init__.__globals__.os.system('touch MARK') }}",
    "{{ joiner().__init__.__globals__.os.system('touch MARK') }}",
    "{{ self.__init__.__globals__.__builtins__.open('MARK', 'w') }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ '{0.__init__.__globals__}'.format(cycler) }}",
    "{{ ('{0.__init__.__globals__}'|attr('format'))(cycler) }}",
    "{{ '{x.__init__.__globals__}'.format_map({'x': cycler}) }}",
    "{{ [cycler]|map(attribute='__init__.__globals__')|list }}",
    "{{ env_var.__globals__['os'].system('touch MARK') }}",
    "{% do [].append(env_var.__closure__) %}{{ env_var.__code__ }}",
    "{{ var.__globals__['os'].system('touch MARK') }}",
    "{% for i in range(999999999) %}{% endfor %}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ 'x' * 10 ** 12 }}",
    "{{ [0] * 10 ** 12 }}",
]


@pytest.mark.parametrize("text", ESCAPES)
def test_no_template_reaches_beyond_its_context(text: str, tmp_path: Path) -> None:
    text = text.replace("MARK", str(tmp_path / "mark"))

    def env_var(name: str) -> str:
        return os.environ[name]

    template = Sandbox(extensions=["jinja2.ext.do"]).from_string(text)
    try:
        said = template.render(env_var=env_var, var=env_var)
    except (SecurityError, jinja2.UndefinedError, OverflowError):
        said = ""
    assert not (tmp_path / "mark").exists()
    assert "module" not in said
    assert "class" not in said


@pytest.mark.parametrize("text", ESCAPES[:15])
@pytest.mark.parametrize("place", ["name", "profile", "target-path", "profiles"])
def test_a_project_with_code_in_its_settings_is_read_and_runs_nothing(tmp_path: Path, text: str, place: str) -> None:
    text = text.replace("MARK", str(tmp_path / "mark"))
    settings = {"name": "shop", "version": "1.0.0", "profile": "shop"} | ({} if place == "profiles" else {place: text})
    output = {"type": "duckdb", "path": text if place == "profiles" else "shop.duckdb"}
    (tmp_path / "dbt_project.yml").write_text(yaml.safe_dump(settings))
    (tmp_path / "profiles.yml").write_text(yaml.safe_dump({"shop": {"target": "dev", "outputs": {"dev": output}}}))
    ran = run("feature-store", "list", cwd=tmp_path)
    assert not (tmp_path / "mark").exists()
    assert ran.code == 1
    assert_one_sentence(ran.err)
    assert "subclasses" not in ran.out


def test_there_is_one_jinja_environment_no_shell_no_pickle_and_no_yaml_with_objects() -> None:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        for word in (
            r"(?<!\w)Environment\(",
            r"NativeEnvironment\(",
            r"jinja2\.Template\(",
            r"shell=",
            r"\bpickle\b",
            r"\bos\.system",
            r"yaml\.\w*load",
        ):
            if re.search(word, text):
                found.add((path.relative_to(PACKAGE).as_posix(), word))
    # The second runs where Feast is, and has nothing of this package.
    assert found == {(path, r"yaml\.\w*load") for path in ("project/yaml_files.py", "feast/ask_feast.py")}


def test_commands_print_through_what_escapes() -> None:
    direct = {
        path.name for path in (PACKAGE / "cli").rglob("*.py") if re.search(r"click\.s?echo|\bprint\(", path.read_text())
    }
    assert direct == {"common.py"}


# YAML.


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\n"
        + "".join(f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}]\n" for a, b in itertools.pairwise("abcdefghijklmn")),
        "a: &a [*a]",
        "[" * 600,
        "a: !!python/object/apply:os.system ['touch MARK']",
        "a: 2026-99-99",
    ],
    ids=["aliases of aliases", "itself", "deep", "an object", "no date"],
)
def test_yaml_is_data_of_a_size_that_somebody_wrote(tmp_path: Path, text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        load_yaml(text.replace("MARK", str(tmp_path / "mark")))
    (tmp_path / "dbt_project.yml").write_text(f"name: shop\nprofile: shop\ntarget-path: x\n{text}\n")
    ran = run("feature-store", "list", cwd=tmp_path)
    assert ran.code == 1
    assert_one_sentence(ran.err)
    assert not (tmp_path / "mark").exists()


def test_aliases_that_somebody_wrote_are_fine() -> None:
    assert load_yaml("a: &a {x: [1, 2]}\nb: *a\nc: {<<: *a, y: 3}") == {
        "a": {"x": [1, 2]}, "b": {"x": [1, 2]}, "c": {"x": [1, 2], "y": 3},
    }  # fmt: skip


# Paths.

NAMES = [
    "",
    ".",
    "..",
    "...",
    "/",
    "a/b",
    "../data",
    "\0",
    "a\nb",
    "CON",
    "nul.txt",
    "log.jsonl",
    "a.",
    "*",
    "[a]",
    "~",
]


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.text(max_size=300), st.sampled_from(NAMES)), st.one_of(st.text(max_size=5), st.sampled_from(NAMES)))
def test_a_name_makes_one_folder_of_its_own_directly_where_it_is_put(one: str, other: str) -> None:
    folder = memory.folder_name(one)
    assert re.fullmatch(r"[\w.~%+-]{1,255}", folder, re.ASCII)
    assert folder not in (".", "..", "log.jsonl")
    assert not folder.endswith(".")
    assert not re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", folder)
    assert one == other or folder != memory.folder_name(other)


def test_names_that_were_folders_before_still_are() -> None:
    assert [memory.folder_name(name) for name in ("shop.dev", "user_features", "user_features.v2", "a:b")] == [
        "shop.dev", "user_features", "user_features.v2", "a%3Ab",
    ]  # fmt: skip


@pytest.mark.parametrize("namespace", ["..", "."])
def test_no_namespace_leads_out_of_the_memory(
    shop: DbtProject, redis_url: str, client: redis.Redis, namespace: str
) -> None:
    """A view and a folder beside the warehouse that are called alike."""
    mine = [shop.folder / "user_features" / name for name in ("notes.txt", "sent-x.parquet", "memory.json")]
    mine[0].parent.mkdir()
    for path in mine:
        path.write_text("mine")
    for more in ((), ("--full",)):
        ran = run(
            "materialize", "user_features", "--namespace", namespace, "--project-dir", str(shop.folder), "--redis-url",
            redis_url, *more, cwd=shop.folder.parent,
        )  # fmt: skip
        assert (ran.code, ran.err) == (0, "")
    assert [path.read_text() for path in mine] == ["mine"] * 3
    assert {path.name for path in shop.folder.glob("warehouse.duckdb.*/*")} == {namespace.replace(".", "%2E")}
    for key in client.scan_iter(match=f"{namespace}:*"):
        client.delete(key)


def test_memory_removes_the_files_of_runs_and_no_other(tmp_path: Path) -> None:
    kept = memory.view_memory(tmp_path, "shop.dev", "data")
    for name in ("sent-old.parquet", "pending-old.parquet", "memory.json.77", "notes.txt", "data.parquet"):
        (kept.folder / name).write_text("x")
    (kept.folder / "folder").mkdir()
    kept.save(memory.Memory("r", None, True, "f", None, (), 0, ()))
    kept.forget()
    assert {path.name for path in kept.folder.iterdir()} == {"notes.txt", "data.parquet", "folder"}


def test_memory_writes_through_no_link(tmp_path: Path) -> None:
    kept = memory.view_memory(tmp_path / "state", "shop.dev", "data")
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "folder").mkdir()
    for link in (kept.folder / f"memory.json.{os.getpid()}", kept.folder.parent / "log.jsonl"):
        link.symlink_to(tmp_path / "mine")
    kept.save(memory.Memory("r", None, True, "f", None, (), 0, ()))
    log.append_log(tmp_path / "state", "shop.dev", {"view": "data"})
    assert (tmp_path / "mine").read_text() == "mine"
    (kept.folder.parent / "linked").symlink_to(tmp_path / "folder")
    (tmp_path / "state" / "linked").symlink_to(tmp_path / "folder")
    for names in (("shop.dev", "linked"), ("linked", "data")):
        with pytest.raises(OSError, match="a link to elsewhere"):
            memory.view_memory(tmp_path / "state", *names)
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_folder_in_place_of_memory_is_put_aside_with_what_is_in_it(tmp_path: Path) -> None:
    kept = memory.view_memory(tmp_path, "shop.dev", "data")
    (kept.folder / "memory.json").mkdir()
    (kept.folder / "memory.json" / "mine.txt").write_text("mine")
    kept.forget()
    kept.save(memory.Memory("r", None, True, "f", None, (), 0, ()))
    (aside,) = tmp_path.rglob("mine.txt")
    assert aside.read_text() == "mine"
    assert (kept.folder / "memory.json").is_file()


@pytest.mark.parametrize("name", ["../../secret.parquet", "/etc/passwd", "memory.json/../../../x", "notes.txt"])
def test_memory_that_names_other_files_is_none(tmp_path: Path, name: str) -> None:
    kept = memory.view_memory(tmp_path / "state", "shop.dev", "data")
    (kept.folder / "notes.txt").write_text("x")
    (tmp_path / "secret.parquet").write_text("x")
    kept.save(memory.Memory("r", None, True, "f", name, (), 0, ()))
    assert kept.load() is None
    kept.save(memory.Memory("r", None, False, "f", None, (name,), 0, ()))
    assert kept.load() is None


def test_init_writes_through_no_link(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "new" / "dbt_project.yml").symlink_to(tmp_path / "target.yml")
    assert run("feature-store", "init", "new", "--name", "new", cwd=tmp_path).code == 1
    (tmp_path / "new" / "dbt_project.yml").unlink()
    (tmp_path / "new" / "models").symlink_to(tmp_path / "elsewhere")
    ran = run("feature-store", "init", "new", "--name", "new", cwd=tmp_path)
    assert ran.code == 1
    assert_one_sentence(ran.err)
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["elsewhere", "new", "models"]


@pytest.mark.parametrize("name", ["packages.yml", "dbt_packages_local", "dbt_packages_local/feature_store"])
def test_init_in_a_project_writes_through_no_link(tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mine.yml").write_text("packages:\n  - package: a/b\n")
    link = tmp_path / "there" / name
    link.parent.mkdir(parents=True)
    (tmp_path / "there" / "dbt_project.yml").write_text("name: mine\nprofile: mine\n")
    link.symlink_to(tmp_path / ("mine.yml" if name == "packages.yml" else "elsewhere"))
    ran = run("feature-store", "init", cwd=tmp_path / "there")
    assert ran.code == 1
    assert_one_sentence(ran.err)
    assert (tmp_path / "mine.yml").read_text() == "packages:\n  - package: a/b\n"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_init_repeats_of_a_project_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "dbt_project.yml").write_text("name: mine\nprofile: mine\n")
    (tmp_path / "packages.yml").write_text(yaml.safe_dump({"packages": [{"git": f"feature-store{HOSTILE}"}]}))
    ran = run("feature-store", "init", cwd=tmp_path)
    assert "names the dbt package already" in ran.out
    assert not any(category(letter) in ("Cc", "Cf", "Zl") for letter in ran.out + ran.err if letter != "\n")


# The terminal.

HOSTILE = "\x1b]0;title\x07\x1b[2J\rline\nError: fake\x9b31m\u202egnirts\u2066\u200b\u2028\U000e0041\x7f\x85"


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=())))
def test_what_is_printed_is_one_line_without_hidden_letters(text: str) -> None:
    shown = printable(text)
    assert not any(category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in shown)
    assert json.loads(printable_json({text: [text]})) == json.loads(json.dumps({text: [text]}))
    assert not any(category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in printable_json([text]))


def test_letters_of_any_language_stay_as_they_are() -> None:
    text = "größer 价格 שלום مرحبا ελληνικά 🛒 ∑ x²"
    assert printable(text) == text
    assert text in printable_json([text])


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    """The shop, with texts that would take over a terminal wherever a project may say something."""
    shop = copy_of(built_shop(), tmp_path_factory.mktemp("hostile") / "shop")
    path = shop.folder / "target" / "manifest.json"
    manifest = json.loads(path.read_text())
    for node in (*manifest["nodes"].values(), *manifest["exposures"].values()):
        node["description"] = f"{node['description']}{HOSTILE}"
        if node["resource_type"] in ("model", "exposure"):
            node["tags"] = [*node.get("tags", []), f"tag{HOSTILE}"]
        for column in (node.get("columns") or {}).values():
            column["description"] = HOSTILE
    for group in manifest["groups"].values():
        group["name"] = f"growth{HOSTILE}"
    for exposure in manifest["exposures"].values():
        exposure["owner"]["name"] = f"ML{HOSTILE}"
    model = manifest["nodes"]["model.shop.user_features"]
    model["config"]["group"] = f"growth{HOSTILE}"
    model["original_file_path"] = model["original_file_path"]
    model["compiled_code"] = f'select now() as "at{HOSTILE}", 1 as user_id, age as age from x'
    model["config"]["meta"]["feature_view"]["tags"] = {HOSTILE: HOSTILE}
    path.write_text(json.dumps(manifest))
    return shop


COMMANDS = [
    "list", "list features", "list entities", "list services", "list --tag x\x1b[31m", "show user_features",
    "show user_features:age", "show user_id", "show recommendation", "show \x1b[31mx", "search user",
    "lineage user_features:age", "lineage user_features:age --output mermaid", "lineage user_features --output dot",
    "lint", "doctor", "stats user_features", "freshness", "diff --old-manifest OLD", "stats x\x1by:z",
    "training --spine SPINE -f user_features:city",
]  # fmt: skip


@pytest.mark.parametrize("text", [*COMMANDS, *(f"{text} --output json" for text in COMMANDS[:2] + COMMANDS[5:9])])
def test_nothing_that_a_project_says_reaches_the_terminal(hostile: DbtProject, tmp_path: Path, text: str) -> None:
    (tmp_path / "spine.jsonl").write_text(
        json.dumps({"user_id": 1, "event_timestamp": "2024-06-01T00:00:00", f"label{HOSTILE}": HOSTILE}) + "\n"
    )
    args = [
        {"OLD": str(built_shop().folder / "target"), "SPINE": str(tmp_path / "spine.jsonl")}.get(word, word)
        for word in text.split(" ")
    ]
    ran = command(hostile, *args)
    assert ran.out or ran.err
    assert "Traceback" not in ran.err
    if "--" not in text and text.partition(" ")[0] in ("list", "show", "search"):
        assert "\\x1b" in ran.out + ran.err
    for said in (ran.out, ran.err):
        assert not any(category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in said if letter != "\n")
        assert "\nError: fake" not in said
    if text.endswith("json") and ran.out:
        json.loads(ran.out)


def test_json_says_exactly_what_the_project_says(hostile: DbtProject) -> None:
    (view,) = [one for one in command(hostile, "list", "--output", "json").json if one["name"] == "user_features"]
    assert view["description"] == f"Who a user is.{HOSTILE}"
    assert HOSTILE in view["tags"]


def test_a_description_of_several_lines_cannot_pass_for_facts(hostile: DbtProject) -> None:
    lines = command(hostile, "show", "user_features").out.splitlines()
    assert any(line.startswith("  Error: fake") for line in lines)


def test_drawings_hold_names_as_text() -> None:
    name = 'a"] --> x["<img src=x>`%%{init: {}}%%`\n  click n0 "javascript:alert(1)" #quot; \\" \x1b[2J &lt;'
    start, end = Column("source.shop.raw.t", name), Column("model.shop.m", name)
    lineage = Lineage(end, "upstream", (Edge(start, end, "value", name),))
    mermaid, dot = as_mermaid([lineage]), as_dot([lineage])
    assert len(mermaid.splitlines()) == 8
    assert not re.search(r"""[<>`%{}\x1b&\\]|click n0 "|"\] -->""", re.sub(r" --> c\d", "", mermaid))
    assert len(dot.splitlines()) == 13
    assert "\x1b" not in dot
    assert re.sub(r"\\.", "", dot).count('"') == 8


# Processes.


def git(folder: Path, *args: str) -> None:
    subprocess.run(["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@x", *args], check=True,
                   capture_output=True)  # fmt: skip


def test_git_runs_no_program_that_a_repository_names(tmp_path: Path) -> None:
    """As in a folder that was unpacked with its ``.git``."""
    folder, mark = tmp_path / "project", tmp_path / "mark"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "a.sql").write_text("select 1")
    (folder / ".gitattributes").write_text("*.sql filter=evil diff=evil\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {mark}\ncat\n")
    program.chmod(0o755)
    for hook in ("post-checkout", "post-index-change", "reference-transaction"):
        (folder / ".git" / "hooks" / hook).write_text(program.read_text())
        (folder / ".git" / "hooks" / hook).chmod(0o755)
    for name in ("core.fsmonitor", "filter.evil.clean", "filter.evil.smudge", "filter.evil.process",
                 "diff.evil.textconv", "diff.evil.command", "core.sshCommand", "core.pager"):  # fmt: skip
        git(folder, "config", name, str(program))
    mark.unlink(missing_ok=True)
    (folder / "a.sql").write_text("select 2")
    state = git_state(folder)
    assert state is not None
    assert state.dirty
    assert commit_of(folder, "HEAD") == state.revision
    from materializer.project.revisions import _checked_out

    (folder / "dbt_project.yml").write_text("name: x")
    with (
        pytest.raises(FeatureStoreError, match="has no dbt_project"),
        _checked_out(folder, ("HEAD", state.revision), tmp_path / "tree"),
    ):
        pass
    assert not mark.exists()


@pytest.mark.parametrize(
    "revision", ["--help", "-c", "--output=MARK", "--upload-pack=touch MARK", "HEAD^{commit}", "a\nb"]
)
def test_a_revision_that_looks_like_an_option_is_a_revision(tmp_path: Path, revision: str) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("a")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    found = commit_of(tmp_path, revision.replace("MARK", str(tmp_path / "mark")))
    assert (found is not None) is revision.startswith("HEAD")
    assert not (tmp_path / "mark").exists()


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """A folder for a private server that came with a clone."""
    folder = tmp_path / "clone" / ".redis"
    folder.mkdir(parents=True, mode=0o755)
    yield folder
    folder.chmod(0o700)
    for path in folder.iterdir():
        if path.is_symlink():
            path.unlink()
    local_redis.stop(folder)


def test_a_program_in_a_cloned_folder_is_never_run(clone: Path, tmp_path: Path) -> None:
    for name in ("program", "redis-server", "valkey-server", "kind"):
        (clone / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/mark\n")
        (clone / name).chmod(0o755)
    (clone / "program").write_text(f"{clone}/redis-server\n")
    assert redis.Redis.from_url(local_redis.start(clone)).ping()
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("mode", [0o770, 0o777, 0o1777, 0o702])
def test_a_folder_that_others_may_write_is_refused(clone: Path, mode: int) -> None:
    clone.chmod(mode)
    with pytest.raises(FeatureStoreError, match="Others may write"):
        local_redis.start(clone)
    assert list(clone.iterdir()) == []


def test_the_server_that_such_a_folder_names_is_not_believed(clone: Path) -> None:
    url = local_redis.start(clone)
    assert local_redis.url(clone) == url
    clone.chmod(0o777)
    assert local_redis.url(clone) is None
    clone.chmod(0o700)
    os.mkfifo(clone / "waits")  # whoever opens it, waits for ever
    assert local_redis.url(clone) is None
    (clone / "waits").unlink()


def test_a_folder_of_another_user_is_refused(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12_345)
    with pytest.raises(FeatureStoreError, match="belongs to another user"):
        local_redis.start(clone)


@pytest.mark.parametrize("name", ["lock", "port", "redis.log", "home", "appendonlydir"])
def test_a_link_in_a_cloned_folder_is_not_written_through(clone: Path, tmp_path: Path, name: str) -> None:
    mine = tmp_path / "mine"
    mine.mkdir() if name == "appendonlydir" else mine.write_text("mine")
    (clone / name).symlink_to(mine)
    with pytest.raises(FeatureStoreError, match="a link to elsewhere"):
        local_redis.start(clone)
    assert name == "appendonlydir" or mine.read_text() == "mine"


def test_a_folder_that_is_a_link_is_refused(clone: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir(mode=0o700)
    clone.rmdir()
    clone.symlink_to(tmp_path / "mine")
    with pytest.raises(FeatureStoreError, match="is a link"):
        local_redis.start(clone)
    assert list((tmp_path / "mine").iterdir()) == []
    clone.unlink()
    clone.mkdir()


def test_data_in_a_cloned_folder_is_not_loaded(clone: Path, tmp_path: Path) -> None:
    """A server runs the commands of such a file, whatever they are."""
    other = tmp_path / "other"
    redis.Redis.from_url(local_redis.start(other)).eval("return redis.call('set', 'x', 'y')", 0)
    local_redis.stop(other)
    for path in other.rglob("*"):
        if path.is_file():
            copy = clone / path.relative_to(other)
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(path.read_bytes())
    with pytest.raises(FeatureStoreError, match="Remove the folder"):
        local_redis.start(clone)


# Sockets.


def test_a_webhook_that_drips_its_answer_is_given_up_in_time() -> None:
    """One deadline for all of it, however the answer trickles in."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def drip() -> None:
            connection, _ = server.accept()
            connection.recv(65_536)
            try:
                for byte in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1_000:
                    connection.sendall(bytes([byte]))
                    time.sleep(0.05)
            except OSError:
                ended.set()

        threading.Thread(target=drip, daemon=True).start()
        began = time.monotonic()
        with pytest.raises(FeatureStoreError, match=r"did not answer within 0\.5 seconds") as raised:
            webhook.send(f"http://127.0.0.1:{server.getsockname()[1]}/s3cret", {"text": "x"}, timeout=0.5)
        assert time.monotonic() - began < 3
        assert "s3cret" not in str(raised.value)
        assert ended.wait(5), "the connection is kept"


def test_a_published_registry_is_read_and_runs_nothing(
    redis_url: str, client: redis.Redis, namespace: str, tmp_path: Path
) -> None:
    """Arrow once took the types of strangers out of a pickle."""

    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path}/mark",)

    field = pa.field("user_id", pa.int64(), metadata={
        "ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": pickle.dumps(Evil()),
    })  # fmt: skip
    entry = {
        "format": 1, "name": f"u{HOSTILE}", "version": None, "latest_version": None, "timestamp": "t",
        "entities": [{"name": "user_id", "type": "int64", "description": HOSTILE}], "features": [],
        "created_timestamp": None, "ttl_seconds": None, "available_after_seconds": None, "tags": {}, "description":
        "{{ cycler.__init__.__globals__.os.system('touch mark') }}", "owner": HOSTILE,
        "published_at": "2026-01-01T00:00:00+00:00",
        "arrow_schema": base64.b64encode(pa.schema([field]).serialize().to_pybytes()).decode(), "rows": 0,
        "watermark": None, "told": True,
    }  # fmt: skip
    client.hset(registry_key(namespace), entry["name"], json.dumps(entry))
    (view,) = FeatureStore(redis_url=redis_url, namespace=namespace).list_feature_views()
    assert view.description == entry["description"]
    for args in (("list",), ("list", "entities"), ("show", f"u{HOSTILE}"), ("search", "user")):
        ran = run("feature-store", *args, "--redis-url", redis_url, "--namespace", namespace, cwd=tmp_path)
        assert not any(category(letter) in ("Cc", "Cf", "Zl") for letter in ran.out + ran.err if letter != "\n")
    assert not (tmp_path / "mark").exists()


# SQL.

ODD = ['a"b', "x\") as y; copy (select 1) to 'OUT'; --", "a'b", "a\nb", "a -- b", "select", "{{ a }}", "*"]


@pytest.mark.parametrize("name", ODD)
def test_a_column_of_any_name_is_a_column_to_materialize(name: str, tmp_path: Path) -> None:
    from materializer.materialize import difference
    from materializer.materialize.current import Current

    key, feature = f"k{name}".replace("OUT", str(tmp_path / "out")), name.replace("OUT", str(tmp_path / "out"))
    view = FeatureView(
        name="v", entities=(Entity(key, "", pa.int64()),), features=(Feature(feature, "", pa.float64()),),
        timestamp="t", created_timestamp=None, available_after=None, ttl=None, relation="v", unique_id="v",
    )  # fmt: skip
    with duckdb.connect() as connection:
        quoted = ['"' + one.replace('"', '""') + '"' for one in (key, feature)]
        connection.execute(f"create table v as select 1::bigint as {quoted[0]}, now() as t, 0.5::double as {quoted[1]}")
        pending = tmp_path / "it's pending.parquet"
        sent = tmp_path / "it's sent.parquet"
        now = datetime.now(timezone.utc)

        def save(sql: str, path: Path) -> None:
            connection.execute(f"copy ({sql}) to '{str(path).replace(chr(39), chr(39) * 2)}'")

        current = Current(view, "select * from v", now)
        save(difference.changes(current, difference.Known()), pending)
        rows = current.rows(difference.keys_to_send(pending))
        assert len(connection.sql(rows).fetchall()) == 1
        save(rows, sent)
        assert connection.sql(difference.keys_gone(view, pending)).fetchall() == []
        assert connection.sql(difference.folded(view, difference.Known(), pending, sent, None)).fetchall()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "profile",
    [
        {"settings": {"threads = 1; copy (select 1) to 'OUT'; set threads": 1}},
        {"extensions": ["json; copy (select 1) to 'OUT'"]},
        {"extensions": [{"name": "json; copy (select 1) to 'OUT'; install json", "repo": "core"}]},
        {"extensions": [{"name": "nope", "repo": "core; copy (select 1) to 'OUT'"}]},
        {"secrets": [{"type": "s3", "name": "s (type s3); copy (select 1) to 'OUT'; create secret s"}]},
        {"secrets": [{"type": "s3); copy (select 1) to 'OUT'; --"}]},
        {"attach": [{"path": "DB", "alias": "a; copy (select 1) to 'OUT'; --"}]},
        {"attach": [{"path": "DB", "options": {"type": "duckdb); copy (select 1) to 'OUT'; --"}}]},
        {"attach": [{"path": "DB", "options": {"block_size": "''); copy (select 1) to 'OUT'; select (''"}}]},
    ],
    ids=str,
)
def test_a_profile_holds_names_and_values_and_no_statements(
    shop: DbtProject, tmp_path: Path, profile: dict[str, Any]
) -> None:
    with duckdb.connect(str(tmp_path / "other.duckdb")):
        pass
    text = json.dumps(profile).replace("OUT", str(tmp_path / "out")).replace("DB", str(tmp_path / "other.duckdb"))
    profile_of(shop, **json.loads(text))
    ran = command(shop, "stats", "user_features")
    assert ran.code == 1
    assert_one_sentence(ran.err)
    assert not (tmp_path / "out").exists()


def test_a_statement_of_usage_is_a_sentence_too(tmp_path: Path) -> None:
    ran = run("feature-store", "training", "--out", "x\x1b[31m.txt", cwd=tmp_path)
    assert ran.code == 2
    assert "\x1b" not in ran.err
    with pytest.raises(InputError):
        raise InputError("x")
