"""The HTML report, as text and in a browser: nothing is fetched or obeyed, everything can be found and read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import chromium
import pytest
from suite_samples import EVIL, VERDICTS, sample

from conformance.clauses import known
from conformance.report.html import ROWS_AT_END, ROWS_AT_START, headline, page
from conformance.report.model import Report
from conformance.report.prose import html as prose

VOID = {"meta", "input", "br", "link", "img", "hr"}


class Reader(HTMLParser):
    """Collects ids, links and texts; complains of tags that do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if values.get("id"):
            self.ids.append(values["id"] or "")
        if tag == "a":
            self.links.append(values.get("href") or "")
        self.loads += [f"{tag} {name}" for name in ("src", "srcset", "data", "action") if name in values]
        if tag == "link":
            self.loads.append("link")
        assert not [name for name in values if name.startswith("on")], "handlers in attributes"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def text() -> str:
    return page(sample())


# ---------------------------------------------------------------- the text


def test_ids_are_unique_and_links_lead_somewhere(text: str) -> None:
    reader = read(text)
    assert len(reader.ids) == len(set(reader.ids))
    assert {link for link in reader.links if not link.startswith("#")} == set()
    assert {link[1:] for link in reader.links} <= set(reader.ids)


def test_nothing_is_loaded(text: str) -> None:
    assert read(text).loads == []
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text
    assert re.findall(r"https?://", text) == []


def test_what_a_testee_says_is_text() -> None:
    """Clause SEC-3: its name, and what it answers (the sample has a script in it)."""
    made = page(sample(name=EVIL))
    assert "<script>alert" not in made
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in made
    assert made.count("<script>") == 1


def test_every_case_and_its_way_back_is_there(text: str) -> None:
    for case in sample().cases:
        assert f">{case.id}</code>" in text
    assert "dsdp-conformance run --exec &#39;./testee --strict&#39; --seed 4711 --case verify/truncated" in text


def test_a_long_log_is_cut_in_the_middle() -> None:
    content = sample().to_json()
    case = next(case for case in content["cases"] if case["id"] == "verify/truncated")
    case["wire"] = [case["wire"][1]] * (ROWS_AT_START + ROWS_AT_END + 50)
    made = page(Report.from_json(content))
    assert "50 entries are left out here" in made
    assert made.count("<b>HELLO on channel 0</b>") < 1.2 * (ROWS_AT_START + ROWS_AT_END)


def test_a_report_of_nothing_is_a_page_too() -> None:
    content = sample().to_json() | {"cases": [], "summary": {}, "clauses": [], "passed": True}
    report = Report.from_json(content)
    assert headline(report) == "No case was judged"
    read(page(report))


def test_a_good_report_says_so() -> None:
    content = sample().to_json()
    content["cases"] = [case for case in content["cases"] if case["verdict"] == "PASS"]
    content |= {"summary": {"PASS": 1}, "passed": True}
    made = page(Report.from_json(content))
    assert "All 1 judged cases are in order" in made
    assert 'id="trouble"' not in made


@pytest.mark.parametrize("clause", known().values(), ids=lambda clause: clause.id)
def test_every_clause_reads_well(clause) -> None:
    """No Markdown is left over outside of code, and no word is lost."""
    made = str(prose(clause.text))
    read(made)
    shown = re.sub(r"<(code|pre)>.*?</\1>", "", made, flags=re.S)
    assert "`" not in shown
    assert "**" not in shown
    assert not re.search(r"^\s*\|", shown, re.M)
    words = re.sub(r"<[^>]+>", " ", made).replace("&#39;", "'").replace("&#34;", '"')
    assert set(re.findall(r"\w{4,}", clause.text)) <= set(re.findall(r"\w{4,}", words))


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[chromium.Browser]:
    path = chromium.found()
    if path is None:
        pytest.skip("no Chromium here; .ci/install installs it, as root on a system with apt")
    with chromium.Browser(path) as started:
        yield started


@pytest.fixture
def opened(browser: chromium.Browser, text: str, tmp_path: Path) -> chromium.Browser:
    file = tmp_path / "report.html"
    file.write_text(text, "utf-8")
    browser.dark(False)
    browser.open(file)
    return browser


SHOWN = "[...document.querySelectorAll('table.cases tbody tr')].filter(row => !row.hidden).length"


def test_the_page_runs_without_complaint_and_asks_for_nothing(opened: chromium.Browser) -> None:
    opened.js("1")
    methods = [event.get("method") for event in opened.events]
    assert "Runtime.exceptionThrown" not in methods
    assert "Log.entryAdded" not in methods, [e for e in opened.events if e.get("method") == "Log.entryAdded"]
    asked = [e["params"]["request"]["url"] for e in opened.events if e.get("method") == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("file:")] == []
    assert len(asked) == 1


def test_the_filter_narrows_the_list(opened: chromium.Browser) -> None:
    opened.js("""
        window.set = (id, value) => {
            document.getElementById(id).value = value;
            document.getElementById("filter").dispatchEvent(new Event("input", {bubbles: true}));
        }
    """)
    assert opened.js(SHOWN) == len(VERDICTS)
    opened.js("set('find', 'ties s-samp-3')")
    assert opened.js(SHOWN) == 1
    assert opened.js("document.getElementById('shown').value") == f"1 of {len(VERDICTS)} cases"
    opened.js("set('find', ''); set('rung', '3')")
    assert opened.js(SHOWN) == 2
    opened.js("document.querySelector('input[value=FAIL]').click()")
    assert opened.js(SHOWN) == 1
    opened.js("document.querySelector('#filter button').click()")
    opened.js("new Promise(done => setTimeout(done))")
    assert opened.js(SHOWN) == len(VERDICTS)


def test_a_cell_of_the_matrix_leads_to_its_cases(opened: chromium.Browser) -> None:
    opened.js("document.querySelector('a[data-section=\"17.3\"][data-verdict=XFAIL]').click()")
    assert opened.js(SHOWN) == 1
    visible = "[...document.querySelectorAll('table.cases tbody tr')].find(row => !row.hidden).textContent"
    assert "coupled/ties" in opened.js(visible)


def test_a_clause_leads_to_its_cases(opened: chromium.Browser) -> None:
    opened.js("document.querySelector('#clause-S-SAMP-3 a[data-clause]').click()")
    assert opened.js(SHOWN) == 2
    opened.js(
        "set = [...document.querySelectorAll('.finding a.clause')].find(a => a.textContent === 'V-6'); set.click()"
    )
    assert opened.js("document.querySelector('dialog').open")
    opened.js("document.querySelector('dialog a[data-clause]').click()")
    assert not opened.js("document.querySelector('dialog').open")
    assert opened.js(SHOWN) == 1


def test_a_clause_opens_where_one_is(opened: chromium.Browser) -> None:
    opened.js("document.querySelector('.wire a.clause, .finding a.clause').click()")
    assert opened.js("document.querySelector('dialog').open")
    name = opened.js("document.querySelector('dialog h3').textContent.trim().split(/\\s/)[0]")
    assert name in known()
    opened.js("document.querySelector('dialog form button').click()")
    assert not opened.js("document.querySelector('dialog').open")


def test_a_link_opens_the_case_that_it_leads_to(opened: chromium.Browser, tmp_path: Path) -> None:
    opened.js("document.querySelectorAll('details').forEach(one => one.open = false)")
    opened.js("document.querySelector('table.cases a[href=\"#case-verify/truncated\"]').click()")
    opened.js("new Promise(done => setTimeout(done, 50))")
    assert opened.js("document.getElementById('case-verify/truncated').open")


def test_a_command_can_be_copied(opened: chromium.Browser) -> None:
    buttons = opened.js("[...document.querySelectorAll('code.command + button')].length")
    assert buttons == opened.js("[...document.querySelectorAll('code.command')].length") > 3


def test_everything_that_can_be_used_has_a_name(opened: chromium.Browser) -> None:
    """As a screen reader sees it."""
    opened.call("Accessibility.enable")
    nodes = opened.call("Accessibility.getFullAXTree")["nodes"]
    roles = {
        "button",
        "link",
        "checkbox",
        "combobox",
        "searchbox",
        "region",
        "table",
        "textbox",
        "navigation",
        "dialog",
    }
    found = [node for node in nodes if not node["ignored"] and node["role"]["value"] in roles]
    assert len(found) > 50
    nameless = [node for node in found if node["role"]["value"] != "table" and not node["name"]["value"].strip()]
    assert nameless == []
    headings = [node for node in nodes if not node["ignored"] and node["role"]["value"] == "heading"]
    assert len(headings) > 10
    assert {"main", "navigation"} <= {node["role"]["value"] for node in nodes if not node["ignored"]}


CONTRAST = """
(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const over = (top, below) => { const a = top[3] ?? 1; return [0, 1, 2].map(i => top[i] * a + below[i] * (1 - a)); };
  const light = (c) => { const [r, g, b] = c.map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b; };
  const ground = (node) => { const chain = [];
    for (let at = node; at; at = at.parentElement) chain.unshift(parse(getComputedStyle(at).backgroundColor));
    return chain.reduce((below, top) => over(top, below), [255, 255, 255]); };
  const poor = [];
  document.querySelectorAll("details").forEach(one => one.open = true);
  for (const node of document.querySelectorAll("main *, header *, nav *")) {
    const own = [...node.childNodes].filter(child => child.nodeType === 3).map(child => child.textContent.trim());
    const says = own.some(text => text && text !== "·");
    if (!says || !node.offsetParent) continue;
    const below = ground(node), ink = over(parse(getComputedStyle(node).color), below);
    const [a, b] = [light(ink), light(below)];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) poor.push([node.tagName, node.className, own.join(" ").slice(0, 20), ratio.toFixed(2)].join(" "));
  }
  return poor;
})()
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_can_be_read(opened: chromium.Browser, dark: bool) -> None:
    """Contrast of at least 4.5 to 1 (WCAG 2.2, level AA), in both themes."""
    opened.dark(dark)
    ground = opened.js("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) == dark
    assert opened.js(CONTRAST) == []


def test_the_theme_can_be_chosen(opened: chromium.Browser) -> None:
    before = opened.js("getComputedStyle(document.body).backgroundColor")
    opened.js("document.querySelector('#theme').click()")
    assert opened.js("getComputedStyle(document.body).backgroundColor") != before
    assert opened.js("document.querySelector('#theme').textContent") == "Light"


@pytest.mark.parametrize("width", [360, 800, 1600])
def test_the_page_fits_its_window(opened: chromium.Browser, width: int) -> None:
    """Nothing sticks out sideways; wide tables scroll within themselves."""
    opened.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    opened.js("document.querySelectorAll('details').forEach(one => one.open = true)")
    try:
        assert opened.js("document.documentElement.scrollWidth") <= width
    finally:
        opened.call("Emulation.clearDeviceMetricsOverride")
