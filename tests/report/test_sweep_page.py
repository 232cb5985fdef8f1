"""The page on a sweep, in a browser; skipped where Chromium is not installed."""

import contextlib
import re

import pytest

from inception_jax.report.sweep import data as sweep_data
from inception_jax.report.sweep import page
from tests.report import test_sweep as sweeps


@pytest.fixture
def sweep(tmp_path):
    return sweeps.write_sweep(tmp_path)


@contextlib.contextmanager
def opened(browser, directory, data, width=1200, height=900):
    """The page of some data in a tab; fails at the end if it complained, or asked for anything but itself."""
    page.write(directory / "page.html", data)
    tab = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
    complaints, requests = [], []
    tab.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    tab.on("request", lambda request: requests.append(request.url))
    address = (directory / "page.html").as_uri()
    tab.goto(address)
    tab.wait_for_selector("#plot-loss .scatterlayer .trace")
    yield tab
    tab.close()
    assert [line for line in complaints if not line.startswith(("log:", "info:", "debug:"))] == []
    assert requests == [address]


@pytest.fixture(scope="module")
def tab(browser, tmp_path_factory):
    """The page of `write_sweep`, of whose `both` no parameters are known. Tests leave all lines shown."""
    directory = sweeps.write_sweep(tmp_path_factory.mktemp("sweep"))
    data = sweep_data.read(directory)
    for run in data["runs"][:3]:
        run["parameters"] = None
    for run in data["runs"][6:]:
        run["train_seconds"] = 2.4
    with opened(browser, directory, data) as tab:
        yield tab


def column(tab, heading):
    """The texts of a column of the results."""
    return tab.evaluate(
        """(heading) => {
          const table = document.querySelector("[aria-label=Results] table");
          const at = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent.startsWith(heading));
          return [...table.tBodies[0].rows].map((row) => row.cells[at].textContent);
        }""",
        heading,
    )


def header(tab, heading):
    return tab.locator("[aria-label=Results] thead th").filter(has_text=heading)


def traces(tab, name="top1"):
    """The drawn lines, without bands: what plotly holds of them."""
    found = tab.evaluate(f"document.getElementById('plot-{name}').data")
    return [trace for trace in found if trace.get("fill") != "toself"]


def axis_title(tab, name="top1"):
    return tab.locator(f"#plot-{name} .xtitle").text_content()


def test_tables_are_sorted_by_a_click_as_numbers(tab):
    assert column(tab, "parameters") == ["–", "10,000", "900"]
    header(tab, "parameters").locator("button").click()
    assert column(tab, "parameters") == ["900", "10,000", "–"]
    assert header(tab, "parameters").get_attribute("aria-sort") == "ascending"
    header(tab, "parameters").locator("button").click()
    assert column(tab, "parameters") == ["10,000", "900", "–"]  # what is not known stays last
    assert header(tab, "parameters").get_attribute("aria-sort") == "descending"
    header(tab, "variant").locator("button").focus()
    tab.keyboard.press("Enter")
    assert column(tab, "variant") == ["both", "late", "none"]
    assert header(tab, "parameters").get_attribute("aria-sort") is None
    tab.keyboard.press("Enter")
    assert column(tab, "variant") == ["none", "late", "both"]
    header(tab, "against").locator("button").click()
    assert column(tab, "variant") == ["none", "late", "both"]  # -3.0, then two of 0 as they were


def test_the_axis_is_switched(tab):
    tab.get_by_label("steps").check()
    assert (axis_title(tab), axis_title(tab, "loss")) == ("step", "step")
    assert [trace["x"] for trace in traces(tab)] == [[5, 10]] * 3
    assert traces(tab)[0]["y"] == pytest.approx([50, 81])
    assert traces(tab, "loss")[0]["y"] == pytest.approx([1.5, 1.19])
    tab.get_by_label("training time").first.check()
    assert axis_title(tab) == "training time in seconds"
    assert axis_title(tab, "loss") == "training time in seconds"
    assert traces(tab)[0]["x"] == pytest.approx([2.3, 3.6])
    tab.get_by_label("multiply-adds").first.check()
    assert axis_title(tab) == "multiply-adds of training"
    assert traces(tab)[0]["x"] == [300_000_000, 600_000_000]


def test_costs_are_drawn_where_variants_differ_in_them(tab):
    # Multiply-adds are the same; the parameters of `both` are not known.
    assert tab.locator("[name=cost-axis]").count() == 2
    assert axis_title(tab, "cost") == "parameters"
    assert [trace["x"] for trace in traces(tab, "cost")] == [[10_000], [900]]
    tab.get_by_label("training time").last.check()
    assert axis_title(tab, "cost") == "training time in seconds"
    assert [trace["x"] for trace in traces(tab, "cost")] == [[3.6], [3.6], [2.4]]
    assert [trace["y"] for trace in traces(tab, "cost")] == [pytest.approx([value]) for value in (81, 78, 81)]
    tab.get_by_label("parameters").check()


def test_bands_reach_from_the_lowest_to_the_highest_seed_and_the_threshold_is_drawn(tab):
    found = tab.evaluate("document.getElementById('plot-top1').data")
    [band] = [trace for trace in found if trace.get("fill") == "toself"][:1]
    assert band["y"] == pytest.approx([50, 82, 80, 50])
    [line] = tab.evaluate("document.getElementById('plot-top1').layout.shapes")
    assert (line["y0"], line["y1"]) == pytest.approx((81, 81))
    assert tab.evaluate("document.getElementById('plot-loss').layout.shapes") == []


def test_the_legend_hides_and_shows_a_variant(tab):
    key = tab.locator(".keys button").filter(has_text="none").first
    lines = tab.locator("#plot-top1 .scatterlayer .trace")
    assert lines.count() == 6  # a band and a line each
    key.click()
    assert key.get_attribute("aria-pressed") == "false"
    assert lines.count() == 4
    assert len(traces(tab, "loss")) == 2
    assert tab.evaluate("document.activeElement.textContent") == "none"  # the keyboard stays where it was
    tab.keyboard.press("Enter")
    assert key.get_attribute("aria-pressed") == "true"
    assert lines.count() == 6
    tab.get_by_role("button", name="none").last.click()
    assert lines.count() == 0
    assert tab.locator("#plot-cost .scatterlayer .trace").count() == 0
    tab.get_by_role("button", name="all").click()
    assert lines.count() == 6


def test_only_the_scripts_that_were_written_run(tab):
    policy = tab.locator("meta[http-equiv]").get_attribute("content")
    assert re.fullmatch(
        r"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src( 'sha256-[\w+/]{43}='){2}", policy
    )


def test_lines_differ_in_more_than_colour_and_follow_the_scheme(browser, sweep):
    data = sweep_data.read(sweep)
    names = ["both", *(f"v{index}" for index in range(11))]
    data["sweep"]["variants"] = {name: {} for name in names}
    data["runs"] = [run | {"variant": name} for name in names for run in data["runs"][:3]]
    with opened(browser, sweep, data) as tab:
        light = {trace["line"]["color"] for trace in traces(tab)}
        assert len(light) == 12
        assert len({trace["marker"]["symbol"] for trace in traces(tab)}) == 12
        shapes = tab.evaluate("[...document.querySelectorAll('.keys svg')].map((svg) => svg.outerHTML)")
        assert len(set(shapes)) == 12
        assert sum('fill="var(--page)"' in shape for shape in shapes) == 6  # hollow, as in the drawings
        tab.emulate_media(color_scheme="dark")
        for _ in range(50):  # the page is told of it a moment later
            dark = {trace["line"]["color"] for trace in traces(tab)}
            if not dark & light:
                break
            tab.wait_for_timeout(100)
        assert len(dark) == 12
        assert not dark & light


def test_hovering_tells_the_point_and_markup_stays_text(browser, sweep):
    with opened(browser, sweep, sweeps.nasty(sweep_data.read(sweep))) as tab:
        tab.get_by_label("training time").first.check()
        # Before it in this order: the line of `late`, and of its run that failed. The drawing's surface lies above all.
        tab.locator("#plot-top1 .scatterlayer .trace").nth(-3).locator("path.point").first.hover(force=True)
        tab.wait_for_selector("#plot-top1 .hovertext")
        lines = tab.locator("#plot-top1 .hovertext tspan").all_text_contents()
        assert lines == ["</script><b>bold</b>", "step 5: 40.00 %", "40.00 % to 40.00 % of 3 seeds"]


def test_a_phone_scrolls_tables_not_the_page(browser, sweep):
    data = sweep_data.read(sweep)
    data["sweep"] |= {"title": "Unbreakable" * 8, "text": "x" * 200}
    with opened(browser, sweep, data, width=360, height=740) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") <= 360
        width = "(({scrollWidth, clientWidth}) => [scrollWidth, clientWidth])"
        inside, box = tab.evaluate(f"{width}(document.querySelector('[aria-label=Results]'))")
        assert box <= 360 < inside
        assert tab.locator("#plot-top1").bounding_box()["width"] <= 360


def test_the_curves_of_a_set_are_chosen(browser, sweep):
    data = sweep_data.read(sweep)
    first, second = ([run | {"variant": f"{one}/{run['variant']}"} for run in data["runs"]] for one in "xy")
    second = [run | {"evaluations": [[5, 0.3, 1.5, 1.0], [10, 0.4, 1.2, 2.0]], "top1": 0.4} for run in second]
    variants = {f"{one}/{name}": {} for one in "xy" for name in data["sweep"]["variants"]}
    data |= {
        "runs": [*first, *second],
        "sweep": data["sweep"] | {"sets": ["x", "y"], "variants": variants, "claims": []},
        "threshold": 0.4,
    }
    with opened(browser, sweep, data) as tab:
        names = tab.locator(".keys button").all_text_contents()
        assert names == ["both", "none", "late", "all", "none"]
        assert traces(tab)[0]["y"] == pytest.approx([50, 81])
        tab.get_by_label("y", exact=True).check()
        assert tab.locator(".keys button").all_text_contents() == names
        assert traces(tab)[0]["y"] == pytest.approx([30, 40])
        [line] = tab.evaluate("document.getElementById('plot-top1').layout.shapes")
        assert line["y0"] == pytest.approx(40)
