"""The catalog's page in a browser: what it shows, how it is walked, and that it neither asks nor runs anything else."""

from __future__ import annotations

import hashlib
import json
import random
import re
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from materializer import FeatureStore
from materializer.catalog.page import SCRIPTS, STYLES, html, policy
from tests.support import catalog_documents as documents
from tests.support.dbt import DbtProject, copy_of
from tests.support.redis_servers import until
from tests.support.serving import serving
from tests.support.shop import built_shop

FOLDER = Path(__file__).resolve().parents[1] / "materializer/catalog/page"
CHROMIUM = "/usr/bin/chromium"
# A page of each kind, in the states that it can be in.
ADDRESSES = [
    "#/", "#/?tab=features", "#/?tab=services", "#/?tab=entities", "#/?tab=sources", "#/?tab=models", "#/?q=zzz",
    "#/feature/user_features:spent_7d", "#/feature/user_features:segment", "#/feature/user_features:embedding", "#/feature/user_features:ratio",
    "#/feature/broken_features:lost", "#/feature/item_features:price", "#/view/user_features", "#/view/wide_features", "#/view/stale_features",
    f"#/view/{documents.LONG}", "#/service/checkout", "#/service/nothing_left", "#/entity/user_id", "#/source/raw.purchases?column=amount",
    "#/model/stg_purchases", "#/model/training_set", "#/findings", "#/lookup", "#/selection", "#/selection?f=user_features:spent_7d&f=item_features:price",
    "#/view/nowhere",
]  # fmt: skip


# Those of which axe-core would only say the same again.
ALIKE = {
    "#/?tab=services", "#/?tab=entities", "#/?tab=models", "#/feature/user_features:embedding", "#/feature/user_features:ratio", "#/feature/item_features:price",
    "#/view/wide_features", "#/service/nothing_left", "#/model/stg_purchases", "#/selection",
}  # fmt: skip


# Without a browser.


def test_the_same_document_gives_the_same_bytes() -> None:
    assert html(documents.full()) == html(documents.full())


def test_every_file_of_the_folder_is_in_the_page_and_all_of_it_is_small() -> None:
    assert {path.name for path in FOLDER.glob("*.js")} == set(SCRIPTS)
    assert {path.name for path in FOLDER.glob("*.css")} == set(STYLES)
    own = [path for path in FOLDER.iterdir() if path.suffix in (".js", ".css", ".html")]
    assert sum(path.stat().st_size for path in own) < 300_000
    assert all(len(path.read_text().splitlines()) < 350 for path in own)


def test_nothing_in_the_code_can_turn_text_into_markup_or_read_a_clock() -> None:
    code = "".join((FOLDER / name).read_text() for name in SCRIPTS)
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        ".style",
        "Date.now",
        "new Date",
    ):
        assert word not in code
    assert not re.search(r"setAttribute\(['\"](style|on)", code)


def test_a_document_cannot_end_the_element_that_it_stands_in() -> None:
    page = html(documents.full()).decode()
    assert "document.title='taken'" in page
    data = re.findall(r'<script type="application/json" id="[^"]+">(.*?)</script>', page, re.DOTALL)
    assert len(data) == page.count('type="application/json"') == 3
    assert not any("<" in text for text in data)
    packed = re.findall(r'<script type="text/plain" id="[^"]+" data-bytes="\d+">(.*?)</script>', page, re.DOTALL)
    assert len(packed) == page.count('type="text/plain"') > 3
    assert all(re.fullmatch(r"[\w+/]+=*", text, re.ASCII) for text in packed)
    assert "<script>document.title" not in page.replace("&lt;script&gt;", "")


def test_only_its_own_code_and_style_are_allowed_and_only_served_it_may_ask() -> None:
    assert policy().startswith("default-src 'none'; script-src 'sha256-") and "connect-src" not in policy()
    assert "unsafe" not in policy(served=True) and "connect-src 'self'" in policy(served=True)
    assert policy() in html(documents.full()).decode()
    assert policy(served=True) in html(documents.full(), served=True).decode()


# In a browser.


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="Playwright drives the browser: pip install playwright")
    with api.sync_playwright() as playwright:
        own = {"executable_path": CHROMIUM} if Path(CHROMIUM).exists() else {}
        try:
            started = playwright.chromium.launch(headless=True, args=["--no-sandbox"], **own)
        except api.Error:
            pytest.skip("no Chromium: apt-get install chromium, or playwright install chromium")
        yield started
        started.close()


def test_what_is_packed_comes_out_as_it_was(browser: Any) -> None:
    chosen = random.Random(3)
    words = [chosen.randbytes(chosen.randint(1, 300)) for _ in range(60)]
    contents = [b"", b"a", b"ab" * 200_000, chosen.randbytes(70_000), "Größe \u2028 \U0001f600".encode() * 50]
    contents += [b"".join(chosen.choices(words, k=chosen.randint(1, 2000))) for _ in range(12)]
    cases = []
    for content in contents:
        for level, strategy in ((0, zlib.Z_DEFAULT_STRATEGY), (6, zlib.Z_DEFAULT_STRATEGY), (9, zlib.Z_FIXED)):
            packer = zlib.compressobj(level, wbits=-15, strategy=strategy)
            packed = packer.compress(content) + packer.flush()
            cases.append([b64encode(one).decode() for one in (packed, content)])
    page = browser.new_page()
    same = page.evaluate(
        f"""(cases) => {{
            {(FOLDER / "dom.js").read_text()}
            {(FOLDER / "inflate.js").read_text()}
            const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
            return cases.map(([packed, content]) => {{
                const wanted = bytes(content), found = inflate(bytes(packed), wanted.length);
                return found.length === wanted.length && found.every((one, at) => one === wanted[at]);
            }});
        }}""",
        cases,
    )
    page.close()
    assert same == [True] * 3 * len(contents)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("catalog")
    urls = {}
    few = documents.full(wide=6)
    for name, document in (
        ("full", documents.full()),
        ("few", few),
        ("nothing", documents.nothing()),
        ("in_order", documents.in_order()),
    ):
        path = folder / f"{name}.html"
        path.write_bytes(html(document))
        urls[name] = path.as_uri()
    return urls


@pytest.fixture
def opened(browser: Any, files: dict[str, str]) -> Iterator[Callable[..., Any]]:
    """Opens a page at an address; at the end nothing must have gone wrong in it, and no request have left it."""
    contexts, wrong = [], []

    def open_page(address: str = "#/", which: str = "full", width: int = 1440, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(5000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on(
            "request",
            lambda request: None if request.url.startswith((files[which], "data:")) else wrong.append(request.url),
        )
        page.goto(files[which] + address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def texts(page: Any, selector: str) -> list[str]:
    return [" ".join(text.split()) for text in page.locator(selector).all_inner_texts()]


def headed(page: Any, title: str) -> None:
    until(lambda: texts(page, "h1") == [title], f"the page of {title}")


def rows(page: Any, expected: int) -> None:
    """Waits until a list has all of its rows: those beyond the window come when the first are painted."""
    page.locator("tr[data-row]").nth(expected - 1).wait_for(state="attached")
    assert page.locator("tr[data-row]").count() == expected


def to(page: Any, address: str) -> None:
    """Goes to an address of the page, and waits until it and its later rows are drawn."""
    page.evaluate(
        """(address) => location.hash === address || new Promise((done) => {
          addEventListener('hashchange', () => requestAnimationFrame(() => setTimeout(done)), { once: true });
          location.hash = address;
        })""",
        address,
    )


def test_home_says_the_worst_first_and_lists_views_by_their_keys(opened: Callable[..., Any]) -> None:
    page = opened()
    assert texts(page, "h1") == ["shop"]
    news = texts(page, ".summary a")
    assert news[:3] == ["2 stale or not built", "1 missing in Redis", "3 findings"]
    assert texts(page, ".group .ref") == ["item_id", "user_id", "user_id", "campaign_id"]
    rows(page, 7)
    assert "not built" in page.locator("tr", has_text="broken_features").inner_text()


def test_the_document_is_beside_the_page_by_its_name(opened: Callable[..., Any]) -> None:
    assert opened().get_by_role("link", name="full.json").get_attribute("href") == "full.json"


def test_home_of_a_project_in_order_says_so(opened: Callable[..., Any]) -> None:
    page = opened(which="in_order")
    assert texts(page, ".summary .st") == ["all fresh", "all 1 in Redis", "nothing found"]
    to(page, "#/findings")
    assert "Nothing was found" in page.locator(".lead").inner_text()
    assert page.locator(".checks tr[data-row]").count() == 5
    assert "Not checked: Redis could not be reached" in page.locator(".checks").inner_text()


def test_a_project_without_views_is_told_how_to_make_one(opened: Callable[..., Any]) -> None:
    page = opened(which="nothing")
    assert "feature_view: {entities: [user_id], ttl: 30 days}" in page.locator(".empty").inner_text()
    for address in ("#/?tab=features", "#/?tab=services", "#/findings", "#/lookup", "#/selection"):
        to(page, address)
        assert page.locator(".empty").count() >= 1, address


def test_facets_narrow_the_list_count_what_is_left_and_stand_in_the_address(opened: Callable[..., Any]) -> None:
    page = opened("#/?tab=features")
    page.locator("#facet-drift-moved").check()
    assert texts(page, "td.name") == ["orders_7d"]
    assert page.url.endswith("#/?tab=features&drift=moved")
    page.locator("#facet-drift-drifted").check()
    assert texts(page, "td.name") == ["orders_7d", "segment"]
    assert page.evaluate("document.activeElement.id") == "facet-drift-drifted"
    counts = dict(text.rsplit(" ", 1) for text in texts(page, "fieldset:has-text('Drift') label"))
    assert counts["moved"] == counts["drifted"] == "1" and int(counts["stable"]) > 300
    page.reload()
    assert texts(page, "td.name") == ["orders_7d", "segment"]
    page.get_by_role("button", name="Without drift: moved").click()
    assert texts(page, "td.name") == ["segment"]
    page.get_by_role("button", name="Clear all").click()
    rows(page, 150)
    page.locator("#more").click()
    rows(page, 300)


def test_nothing_that_fits_says_so_and_leads_back(opened: Callable[..., Any]) -> None:
    page = opened("#/?q=zzz")
    assert "No feature view has every word of “zzz”" in page.locator(".empty").inner_text()
    page.get_by_role("link", name="Show everything").click()
    rows(page, 7)


def test_columns_sort_both_ways_from_the_keyboard_and_keep_the_focus(opened: Callable[..., Any]) -> None:
    page = opened("#/?tab=views")
    page.locator("#sort-features").focus()
    page.keyboard.press("Enter")
    assert texts(page, "td.name .ref")[0] == "wide_features"
    assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    page.keyboard.press("Enter")
    assert texts(page, "td.name .ref")[-1] == "wide_features"
    assert page.url.endswith("sort=features")


def test_search_finds_as_one_types_and_enter_opens_the_best(opened: Callable[..., Any]) -> None:
    page = opened()
    page.keyboard.press("/")
    page.keyboard.type("spent")
    assert texts(page, "#hits [role=option] .ref")[0] == "user_features:spent_7d"
    assert page.locator("#q").get_attribute("aria-activedescendant") == "hit-0"
    page.keyboard.press("ArrowDown")
    assert page.locator("#hit-1").get_attribute("aria-selected") == "true"
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    headed(page, "spent_7d")
    assert page.url.endswith("#/feature/user_features:spent_7d")
    assert page.evaluate("document.activeElement.tagName") == "H1"


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("kind:view broken", "broken_features"), ("kind:source", "raw.purchases"), ("owner:growth kind:view wide", "wide_features"),
        ("tag:pii", documents.LONG), ("entity:campaign kind:feature", f"{documents.LONG}:{documents.LONG}_share"),
        ("type:varchar kind:feature", "user_features:segment"), ("over 7 days", "user_features:spent_7d"), ("order placed", "checkout"),
    ],
)  # fmt: skip
def test_search_looks_in_meanings_and_sql_and_is_narrowed(shared: Any, query: str, first: str) -> None:
    page = shared
    page.keyboard.press("Control+k")
    page.locator("#q").fill(query)
    assert texts(page, "#hits [role=option] .ref")[0] == first
    page.keyboard.press("Escape")


@pytest.fixture(scope="module")
def shared(browser: Any, files: dict[str, str]) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(5000)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(files["full"])
    yield page
    page.close()
    assert wrong == []


def test_search_that_finds_nothing_says_so_and_all_hits_are_a_list(opened: Callable[..., Any]) -> None:
    page = opened()
    page.keyboard.press("/")
    page.locator("#q").fill("nothing like that")
    assert "Nothing has every word" in page.locator("#hits").inner_text()
    page.locator("#q").fill("something")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    assert page.url.endswith("#/?tab=features&q=something")
    rows(page, 150)


def test_a_feature_in_one_screen(opened: Callable[..., Any]) -> None:
    page = opened("#/feature/user_features:spent_7d")
    facts = dict(zip(texts(page, ".facts dt"), texts(page, ".facts dt + dd"), strict=True))
    assert facts == {
        "Owner": "Growth team", "Key": "user_id", "Newest event": "1 h old", "In Redis": "200 rows", "NULL": "2%", "Drift in 7 days": "stable",
    }  # fmt: skip
    headings = texts(page, "h2")
    assert headings == [
        "Where it comes from", "How it is computed", "Values", "Freshness", "SQL of the view", "How to get it", "Used by", "Online", "Tests", "Versions",
    ]  # fmt: skip
    assert "sum(amount) over 7 days" in page.locator(".steps").inner_text()
    assert page.locator(".histogram .bar").count() == 24 and page.locator(".histogram .tail").count() == 2
    assert page.locator(".spark").count() == 4
    assert texts(page, ".rows .ref")[:2] == ["checkout", "training_set"]
    assert "failed: 12 rows" in page.locator("aside").inner_text()
    assert page.locator(".hl").inner_text().strip() == "spent_7d"
    page.get_by_text("Compiled").click()
    assert "compiled_here" in page.locator("main").inner_text()


def test_a_script_in_a_description_is_text(opened: Callable[..., Any]) -> None:
    page = opened("#/feature/user_features:spent_7d")
    assert page.locator(".lead").inner_text() == documents.SCRIPT
    assert page.title().startswith("user_features:spent_7d ")


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("broken_features:lost", ["The compiled SQL cannot be read", "No statistics.", "Not resolved."]),
        ("item_features:price", ["nobody", "not kept online", "online: false", "No test.", "Nothing that is known uses it", "not kept for this view"]),
        ("stale_features:old", ["6 d old", "It was never materialized", "materialize stale_features"]),
        ("user_features:embedding", ["No description", "mean norm", "not measured"]),
        ("user_features:segment", ["clothing", "empty text", "others", "drifted", "taken over as it is from", "Duplicate"]),
        ("user_features:ratio", ["Computed when it is asked for", "amount / nullif(spent_7d, 0)"]),
    ],
)  # fmt: skip
def test_no_place_is_empty(shared: Any, reference: str, words: list[str]) -> None:
    to(shared, f"#/feature/{reference}")
    text = shared.locator("main").inner_text()
    assert [word for word in words if word.lower() not in text.lower()] == []


def test_lineage_is_walked_with_the_arrows_and_says_what_is_pointed_at(opened: Callable[..., Any]) -> None:
    page = opened("#/feature/user_features:spent_7d")
    assert page.locator(".lineage a[tabindex='0']").count() == 1
    page.locator(".lineage a[tabindex='0']").focus()
    here = lambda: page.evaluate("document.activeElement.dataset.id")  # noqa: E731
    assert here() == "user_features:spent_7d"
    page.keyboard.press("ArrowLeft")
    assert here() == "stg_purchases:amount"
    assert page.locator(".strip .ref").inner_text() == "stg_purchases:amount"
    assert page.locator(".edge.on").count() >= 2
    page.keyboard.press("ArrowLeft")
    assert here() == "raw.purchases:amount"
    page.keyboard.press("ArrowUp")
    assert here() == "raw.purchases:*"
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert here() in ("training_set:spent_7d", "checkout:*", "user_features:ratio")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    assert page.url.endswith("#/model/stg_purchases?column=amount")


def test_what_only_decides_rows_is_one_checkbox_away_and_the_list_says_the_same(opened: Callable[..., Any]) -> None:
    page = opened("#/feature/user_features:spent_7d")
    assert page.locator(".edge.rows").count() == 0
    page.locator("#decides").check()
    assert page.locator(".edge.rows").count() == 1
    page.get_by_role("button", name="List").click()
    assert texts(page, ".tree a.ref") == ["user_features:spent_7d", "stg_purchases:amount", "raw.purchases:amount", "stg_purchases:user_id", "raw.purchases:user_id"]  # fmt: skip


def test_rows_that_are_counted_are_followed_to_their_source(opened: Callable[..., Any]) -> None:
    page = opened("#/feature/user_features:orders_7d")
    assert page.locator(".edge.counts").count() == 2
    assert texts(page, ".lineage-section .prose a")[0] == "rows of raw.purchases"
    assert texts(page, ".steps .lhs a, .steps .lhs .muted") == ["orders_7d", "counted.n"]


def test_the_other_things_have_pages_that_lead_on(shared: Any) -> None:
    page = shared
    to(page, "#/source/raw.purchases?column=amount")
    columns = texts(page, ".columns tr[data-row]")
    assert "ratio" in columns[1] and "segment" in columns[1] and "spent_7d" in columns[1]
    assert "4 features" in columns[0]
    assert page.locator(".lineage").count() == 1
    to(page, "#/model/training_set")
    assert "Not built" in page.locator("main").inner_text()
    to(page, "#/entity/user_id")
    assert texts(page, "h2") == ["By this key alone", "Together with others", "Services that ask for it"]
    to(page, "#/service/checkout")
    assert texts(page, "section h2")[:2] == ["stale_features", "user_features"]  # the worst first
    to(page, "#/service/nothing_left")
    assert "removed_features:x" in page.locator(".note.error").inner_text()
    to(page, "#/view/user_features.v1")
    assert page.get_by_role("link", name="v2").get_attribute("href") == "#/view/user_features"


def test_three_hundred_features_are_filtered_by_a_word(opened: Callable[..., Any]) -> None:
    page = opened("#/view/wide_features")
    rows(page, 300)
    page.locator("#filter").fill("count_04")
    rows(page, 10)
    assert page.url.endswith("?q=count_04") and page.evaluate("document.activeElement.id") == "filter"


def test_an_unknown_name_shows_what_is_near(opened: Callable[..., Any]) -> None:
    page = opened("#/feature/user_featurs:spent_7d")
    assert "There is no feature called “user_featurs:spent_7d”" in page.locator(".lead").inner_text()
    assert "user_features:spent_7d" in texts(page, ".rows .ref")


def test_findings_are_by_kind_with_the_remedy_once(opened: Callable[..., Any]) -> None:
    page = opened("#/findings")
    assert texts(page, ".group h2") == ["Build 1 · Build it: dbt build -s <name>.", "Freshness 1 · Look at the last dbt build.", "Duplicate 1 · Keep one of them."]  # fmt: skip
    page.locator("#facet-severity-warn").check()
    assert texts(page, ".findings td.name") == ["user_features:segment"]
    assert page.url.endswith("#/findings?severity=warn")
    assert texts(page, "h2")[-1] == "What was checked"


def test_a_selection_is_a_link_that_holds_the_training_set(opened: Callable[..., Any]) -> None:
    page = opened("#/view/user_features")
    page.get_by_role("button", name="Select user_features:spent_7d").click()
    to(page, "#/view/item_features")
    page.get_by_role("button", name="Select item_features:price").click()
    page.get_by_role("link", name="Selection").click()
    text = page.locator(".get").inner_text()
    assert '"user_features:spent_7d",' in text and '"item_features:price",' in text
    to(page, "#/selection?f=user_features:orders_7d&f=user_features:gone")
    assert texts(page, "td.name") == ["orders_7d"]
    assert "user_features:gone" in page.locator(".note.warn").inner_text()


def test_training_sets_that_were_recorded_are_among_who_uses_a_feature(opened: Callable[..., Any]) -> None:
    page = opened("#/feature/user_features:spent_7d")
    used = page.locator("section").filter(has=page.get_by_role("heading", name="Used by"))
    rows = [" ".join(text.split()) for text in used.locator(".rows li").all_inner_texts()]
    assert (
        rows[-2] == "sets/late.parquet 1 200 rows \u00b7 2026-11-20 \u00b7 630bf48, uncommitted recorded training set"
    )
    assert rows[-1].startswith("sets/early.csv 1 row") and "recorded" not in "".join(rows[:-2])
    to(page, "#/view/user_features")
    assert "sets/late.parquet" in page.locator("main").inner_text()
    to(page, "#/feature/user_features:segment")
    assert "sets/" not in page.locator("main").inner_text()


def test_how_to_get_it_is_walked_with_the_arrows_and_copied(opened: Callable[..., Any]) -> None:
    page = opened("#/feature/user_features:spent_7d", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("tab", name="Python").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    panel = page.locator("[role=tabpanel]:not([hidden])")
    panel.get_by_role("button").first.click()
    assert panel.get_by_role("button").first.inner_text() == "Copied"
    copied = page.evaluate("navigator.clipboard.readText()")
    assert (
        copied
        == 'redis-cli -u "$FEATURE_STORE_REDIS_URL" HMGET \\\n  shop.dev:user_features:1 \\\n  spent_7d _fs_event _fs_expires'
    )
    page.keyboard.press("Tab")
    to(page, "#/feature/user_features:ratio")
    assert "Redis does not hold it" in page.locator("[role=tabpanel]:not([hidden])").inner_text()
    page.get_by_role("tab", name="curl").click()
    assert '"entities":[{"user_id":1,"amount":1}]' in page.locator("[role=tabpanel]:not([hidden])").inner_text()


def test_from_disk_the_lookup_is_disabled_with_the_reason_and_the_command(opened: Callable[..., Any]) -> None:
    page = opened("#/lookup?of=user_features")
    assert "a file cannot reach Redis" in page.locator(".empty").inner_text()
    assert page.get_by_role("button", name="Look up").is_disabled()
    assert "HGETALL shop.dev:user_features:1" in page.locator(".empty").inner_text()


def test_keys_walk_rows_and_features_and_can_be_switched_off(opened: Callable[..., Any]) -> None:
    page = opened("#/view/user_features")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    headed(page, "spent_7d")
    page.keyboard.press("]")
    headed(page, "orders_7d")
    page.keyboard.press("[")
    headed(page, "spent_7d")
    page.keyboard.press("?")
    page.locator("#letters").uncheck()
    page.get_by_role("button", name="Close").click()
    page.keyboard.press("]")
    headed(page, "spent_7d")
    page.keyboard.press("Control+k")
    assert page.evaluate("document.activeElement.id") == "q"


def test_back_returns_to_the_place_that_was_left(opened: Callable[..., Any]) -> None:
    page = opened("#/?tab=features")
    rows(page, 150)
    page.mouse.move(700, 500)
    page.mouse.wheel(0, 2500)
    until(lambda: page.evaluate("scrollY") == 2500, "the place")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    to(page, "#/view/user_features")
    assert page.evaluate("scrollY") == 0
    page.go_back()
    until(lambda: page.evaluate("scrollY") == 2500, "the place")
    assert page.url.endswith("#/?tab=features")


def test_light_and_dark_follow_the_system_until_one_is_chosen(opened: Callable[..., Any]) -> None:
    page = opened(color_scheme="dark")
    ground = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")  # noqa: E731
    assert ground() == "rgb(21, 22, 25)"
    page.get_by_role("button", name="Make it light").click()
    assert ground() == "rgb(255, 255, 255)"
    page.reload()
    assert ground() == "rgb(255, 255, 255)"


def test_without_javascript_there_is_a_plain_list(browser: Any, files: dict[str, str]) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(files["full"])
    text = page.locator("body").inner_text()
    assert documents.SCRIPT in text and "count_299_of_something bigint" in text and "user_features.v1" in text
    assert not page.locator("#q").is_visible()
    context.close()


def test_printed_all_of_it_is_there(opened: Callable[..., Any]) -> None:
    page = opened("#/feature/user_features:spent_7d")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert not page.locator(".top").is_visible()
    for words in ("point_in_time_join", "redis-cli -u", "compiled_here", "curl http"):
        assert page.get_by_text(words).first.is_visible(), words
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not page.get_by_text("compiled_here").first.is_visible() or page.locator("details[open]").count() == 0


def test_in_forced_colours_states_and_bars_are_still_seen(opened: Callable[..., Any]) -> None:
    page = opened("#/feature/user_features:spent_7d", forced_colors="active")
    colour = "(selector) => getComputedStyle(document.querySelector(selector)).fill"
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    for selector in (".histogram .bar", ".st svg", ".lineage text"):
        assert page.evaluate(colour, selector) not in (ground, "none"), selector


# What axe-core finds, as texts, and of how many rules something on the page is as it should be.
AXE = """async (runOnly) => {
  const found = await axe.run({ runOnly, resultTypes: ['violations'], selectors: false, preload: false });
  return [found.violations.map((one) => `${one.id}: ${one.nodes[0].html}`), found.passes.length];
}"""


@pytest.mark.parametrize("width", [1440, 390])
def test_every_page_is_accessible_in_both_themes_and_does_not_scroll_sideways(
    browser: Any, files: dict[str, str], width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core: pip install axe-playwright-python").Axe()  # fmt: skip
    wcag = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="light")
    page.goto(files["few"])
    page.evaluate(axe.axe_script)
    found: dict[Any, Any] = {}
    page.on("pageerror", lambda error: found.setdefault(page.url, str(error)))
    for address in ADDRESSES:
        to(page, address)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
        if address in ALIKE:
            continue
        # What a theme changes is contrast alone.
        for theme, rules in (("light", wcag), ("dark", {"type": "rule", "values": ["color-contrast"]})):
            page.emulate_media(color_scheme=theme)
            violations, passed = page.evaluate(AXE, rules)
            assert passed
            if violations:
                found[address, theme] = violations
    page.close()
    assert found == {}


# Served: the page asks the server that it came from.


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> DbtProject:
    shop = copy_of(built_shop(), tmp_path_factory.mktemp("catalog") / "shop")
    FeatureStore(shop.folder, redis_url=redis_url, namespace="catalog").materialize("user_features")
    return shop


def of_the_shop(client: Any, relation: str = "") -> dict[str, Any]:
    """A document of what the shop has online, behind the server at `client`."""
    columns = {"age": "bigint", "city": "varchar", "score": "double"}
    features = [documents.feature(name, dtype) for name, dtype in columns.items()]
    view = documents.view("user_features", features, relation=relation)
    view["online"]["key"] = "catalog:user_features:"
    project = documents.project(namespace="catalog", serve=str(client.base_url).rstrip("/"))
    return {**documents.in_order(), "project": project, "views": [view]}


def looked_up(browser: Any, client: Any) -> Any:
    """The lookup of a page as the server at `client` would send it."""
    document = of_the_shop(client)
    page = browser.new_page()
    page.set_default_timeout(5000)
    address = f"{client.base_url}/"
    page.route(address, lambda route: route.fulfill(body=html(document, served=True), content_type="text/html"))
    page.goto(f"{address}#/lookup?of=user_features")
    return page


def test_served_the_lookup_shows_values_with_their_status_and_age(
    browser: Any, shop: DbtProject, redis_url: str
) -> None:
    with serving(redis_url, namespace="catalog") as (client, _):
        page = looked_up(browser, client)
        page.locator("#key-user_id").fill("2")
        page.get_by_role("button", name="Look up").click()
        page.wait_for_selector(".answer")
        values = texts(page, ".answer tr[data-row]")
        assert values[0].startswith("age 9007199254740993 present 2024-05-01 12:30 UTC")
        assert re.fullmatch(r"city \S NULL 2024-05-01 12:30 UTC \d+ d", values[1])
        assert "2 of 3 present" in page.locator("main").inner_text()
        assert page.url.endswith("#/lookup?of=user_features&key.user_id=2")
        page.locator("#key-user_id").fill("77")
        page.keyboard.press("Enter")
        page.get_by_text("0 of 3 present").wait_for()
        assert texts(page, ".answer .st") == ["not found"] * 3
        page.locator("#key-user_id").fill("nobody")
        page.keyboard.press("Enter")
        page.locator(".note.error").wait_for()
        assert "user_id" in page.locator(".note.error").inner_text()
        page.close()


def test_a_server_with_api_keys_is_asked_with_one(
    browser: Any, shop: DbtProject, redis_url: str, tmp_path: Path
) -> None:
    key = "a key of the test's own, long enough"
    entry = {"name": "browser", "sha256": hashlib.sha256(key.encode()).hexdigest(), "views": ["user_features"]}
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [entry]}))
    with serving(redis_url, "--api-keys", str(tmp_path / "keys.json"), namespace="catalog") as (client, _):
        page = looked_up(browser, client)
        assert not page.locator("#api-key").is_visible()
        page.get_by_role("button", name="Look up").click()
        page.get_by_text("The server asks for an API key.").wait_for()
        page.locator("#api-key").fill("another")
        page.keyboard.press("Enter")
        page.get_by_text("The server does not know this API key.").wait_for()
        page.locator("#api-key").fill(key)
        page.keyboard.press("Enter")
        page.get_by_text("3 of 3 present").wait_for()
        page.close()
