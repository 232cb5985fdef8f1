"""Makes the picture of the page in the documentation, as a person would.

python -m experiments.demo --workdir=runs/digits &
python -m tests.experiments.demo_picture docs/demo_page.png
"""

import shutil
import sys

THREE = ((0, 0.1), (0.4, 0), (0.9, 0.1), (0.9, 0.35), (0.4, 0.47), (0.9, 0.6), (1, 0.8), (0.6, 1), (0, 0.9))
CORNER = ((-0.3, 0.9), (0.3, 0.75))


def main(file: str, address: str = "http://127.0.0.1:7860/") -> None:
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
        tab.goto(address)
        stroke(tab, tab.locator("canvas").first, THREE)
        expect(tab.locator("#channels img")).to_be_visible(timeout=60_000)
        stroke(tab, tab.locator("canvas").last, CORNER)
        expect(tab.locator("#painted")).to_contain_text("painted")
        tab.mouse.move(0, 0)
        tab.screenshot(path=file, full_page=True)
        browser.close()


def stroke(tab, canvas, points) -> None:
    """Draws a line through points, of which (0, 0) and (1, 1) are corners of the canvas's middle."""
    box = canvas.bounding_box()
    places = [
        (box["x"] + box["width"] * (0.3 + 0.4 * x), box["y"] + box["height"] * (0.15 + 0.7 * y)) for x, y in points
    ]
    tab.mouse.move(*places[0])
    tab.mouse.down()
    for place in places[1:]:
        tab.mouse.move(*place, steps=8)
    tab.mouse.up()


if __name__ == "__main__":
    main(*sys.argv[1:])
