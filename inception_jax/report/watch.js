// Puts a new state of the page in place of the old one when there is one. Served by `watch.py`, which gives each state
// a version; `page.html` alone does without, see the meta element that it is written with.
"use strict";
(() => {
  const PATIENCE = 2000; // milliseconds
  let version = document.querySelector("meta[name=version]").content;

  async function get(path) {
    const answer = await fetch(path, { cache: "no-store" });
    if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
    return answer.text();
  }

  async function show(text) {
    const page = new DOMParser().parseFromString(text, "text/html");
    const body = document.importNode(page.body, true);
    // Decoded before they are shown, so that nothing flickers.
    await Promise.all([...body.querySelectorAll("img")].map((image) => image.decode().catch(() => {})));
    const places = new Map();
    for (const element of document.querySelectorAll(".scroll")) {
      places.set(element.getAttribute("aria-label"), element.scrollLeft);
    }
    const top = window.scrollY;
    for (const style of document.querySelectorAll("head style")) style.remove();
    document.head.append(...page.querySelectorAll("head style"));
    document.body.replaceWith(body);
    document.title = page.title;
    for (const element of document.querySelectorAll(".scroll")) {
      element.scrollLeft = places.get(element.getAttribute("aria-label")) ?? 0;
    }
    window.scrollTo({ top, behavior: "instant" });
    version = page.querySelector("meta[name=version]").content;
  }

  async function look() {
    try {
      if ((await get("/version")) !== version) await show(await get("/"));
      document.documentElement.classList.remove("lost");
    } catch {
      document.documentElement.classList.add("lost");
    }
    setTimeout(look, PATIENCE);
  }

  setTimeout(look, PATIENCE);
})();
