"use strict";
// Sorts the tables and draws the curves of a sweep's report.

// ---- Tables: a click on a header sorts, another one turns the order round.

const collator = new Intl.Collator("en", { numeric: true });

function sortable(table) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const ascending = header.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      body.append(...[...body.rows].sort((a, b) => compare(a.cells[column], b.cells[column], ascending)));
    });
  });
}

function compare(a, b, ascending) {
  const sign = ascending ? 1 : -1;
  const [x, y] = [a.dataset.value, b.dataset.value];
  if (x === undefined) return sign * collator.compare(a.textContent, b.textContent);
  if (x === "" || y === "") return (x === "") - (y === ""); // what was not measured stays last
  return sign * (x - y);
}

document.querySelectorAll("table.report").forEach(sortable);

// ---- Curves

// Every variant has a colour, a dash and a marker of its own; the baseline is drawn in the colour of the text.
const COLOURS = {
  light: ["#1f66b0", "#c4500f", "#1b7f4d", "#8e3fa8", "#a3006b", "#7a5c00",
    "#007885", "#5a55d6", "#b3261e", "#4d7c0f", "#7b5138"],
  dark: ["#6eb0f2", "#f09a5b", "#5fd39a", "#cf93e6", "#ff7fc4", "#e0c04a",
    "#4fd0dd", "#a3a8ff", "#ff8f88", "#a9d65c", "#d0ae93"],
};
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
const DASH_ARRAYS = { solid: "", dash: "6 4", dot: "2 3", dashdot: "6 3 2 3", longdash: "10 4" };
const MARKERS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "star",
  "circle-open", "square-open", "diamond-open", "triangle-up-open", "triangle-down-open", "star-open"];
// The same markers for the legend, around the origin.
const SHAPES = {
  circle: "M4 0A4 4 0 1 1 -4 0A4 4 0 1 1 4 0Z",
  square: "M-3.5 -3.5H3.5V3.5H-3.5Z",
  diamond: "M0 -5L5 0L0 5L-5 0Z",
  "triangle-up": "M0 -4.5L4.5 3.5H-4.5Z",
  "triangle-down": "M0 4.5L4.5 -3.5H-4.5Z",
  star: "M0 -5L1.2 -1.6L4.8 -1.5L1.9 .6L2.9 4L0 2L-2.9 4L-1.9 .6L-4.8 -1.5L-1.2 -1.6Z",
};
const AXES = {
  step: { title: "step", tickformat: ",d", more: { rangemode: "tozero" } },
  multiply_adds: { title: "multiply-adds of training", tickformat: "~s", more: { rangemode: "tozero" } },
  seconds: { title: "training time in seconds", tickformat: ",~r", more: { rangemode: "tozero" } },
};
const COSTS = {
  multiply_adds: { title: "multiply-adds of an image", tickformat: "~s", more: { type: "log" } },
  parameters: { title: "parameters", tickformat: "~s", more: { type: "log" } },
  train_seconds: { title: "training time in seconds", tickformat: ",~r", more: { type: "linear" } },
};

const element = document.getElementById("data");
if (element) begin(JSON.parse(element.textContent));

// Groups of curves by the set of images; one group without a name where there are no sets.
function begin(groups) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const hidden = new Set();
  const redraw = () => {
    const data = groups[chosen("set") ?? ""];
    const names = [...new Set([...Object.keys(data.curves), ...data.costs.map((point) => point.name)])];
    const style = styles(names.filter((name) => name !== data.baseline), dark.matches ? "dark" : "light");
    legend(names, hidden, style, redraw);
    const axis = chosen("x-axis");
    const drawn = names.filter((name) => name in data.curves && !hidden.has(name));
    draw("top1", curveTraces(data, drawn, "top1", 100, axis, style), AXES[axis], { ticksuffix: " %" },
      data.threshold === null ? null : 100 * data.threshold);
    draw("loss", curveTraces(data, drawn, "loss", 1, axis, style), AXES[axis], { type: "log", dtick: "D2", tickformat: "~g" }, null);
    const cost = chosen("cost-axis"); // not there where all variants cost the same
    if (cost) draw("cost", costTraces(data.costs, hidden, cost, style), COSTS[cost], { ticksuffix: " %" }, null);
  };
  document.querySelectorAll("input[type=radio]").forEach((input) => input.addEventListener("change", redraw));
  dark.addEventListener("change", redraw);
  redraw();
}

// The looks of variants by name; the baseline is none of `names`.
function styles(names, scheme) {
  const palette = COLOURS[scheme];
  return (name) => {
    const index = names.indexOf(name);
    if (index < 0) return { colour: variable("ink"), dash: "solid", symbol: MARKERS[0], width: 2.5 };
    return {
      colour: palette[index % palette.length],
      dash: DASHES[(index + 1) % DASHES.length],
      symbol: MARKERS[(index + 1) % MARKERS.length],
      width: 1.75,
    };
  };
}

function chosen(name) {
  return document.querySelector(`input[name=${name}]:checked`)?.value;
}

function variable(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// Plotly reads tags in its texts.
function plain(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function legend(names, hidden, style, redraw) {
  const list = document.querySelector(".keys");
  const focus = [...list.querySelectorAll("button")].indexOf(document.activeElement);
  const buttons = names.map((name) => {
    const toggle = () => (hidden.has(name) ? hidden.delete(name) : hidden.add(name));
    const button = labelled(name, toggle, redraw);
    button.setAttribute("aria-pressed", String(!hidden.has(name)));
    button.prepend(swatch(style(name)));
    return button;
  });
  const all = labelled("all", () => hidden.clear(), redraw);
  const none = labelled("none", () => names.forEach((name) => hidden.add(name)), redraw);
  for (const button of [all, none]) button.className = "plain";
  list.replaceChildren(...[...buttons, all, none].map((button) => {
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
  if (focus >= 0) list.querySelectorAll("button")[focus].focus();
}

function labelled(text, change, redraw) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(text);
  button.addEventListener("click", () => { change(); redraw(); });
  return button;
}

function swatch({ colour, dash, symbol, width }) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const add = (tag, attributes) => {
    const child = document.createElementNS(space, tag);
    for (const [key, value] of Object.entries(attributes)) child.setAttribute(key, value);
    svg.append(child);
  };
  for (const [key, value] of Object.entries({ width: 34, height: 12, viewBox: "-17 -6 34 12", "aria-hidden": "true" }))
    svg.setAttribute(key, value);
  add("path", { d: "M-17 0H17", stroke: colour, "stroke-width": width, "stroke-dasharray": DASH_ARRAYS[dash], fill: "none" });
  const open = symbol.endsWith("-open");
  add("path", { d: SHAPES[symbol.replace("-open", "")], stroke: colour, "stroke-width": 1.5,
    fill: open ? "var(--page)" : colour });
  return svg;
}

function curveTraces(data, names, measure, factor, axis, style) {
  const scale = (values) => values.map((value) => (value === null ? null : factor * value));
  const bands = [], lines = [];
  for (const name of names) {
    const { mean, alone } = data.curves[name];
    const { colour, dash, symbol, width } = style(name);
    const low = scale(mean[`${measure}_low`]), high = scale(mean[`${measure}_high`]);
    const known = mean.step.map((_, i) => i).filter((i) => low[i] !== null && mean[axis][i] !== null);
    if (known.length > 1 && mean.seeds[0] > 1) {
      bands.push({
        x: [...known, ...known.toReversed()].map((i) => mean[axis][i]),
        y: [...known.map((i) => high[i]), ...known.toReversed().map((i) => low[i])],
        fill: "toself", fillcolor: `${hex(colour)}26`, line: { width: 0 }, mode: "lines", hoverinfo: "skip",
      });
    }
    const unit = measure === "top1" ? ":.2f} %" : ":.4f}";
    for (const run of alone) {
      lines.push({
        x: run[axis], y: scale(run[measure]), customdata: run.step, mode: "lines",
        line: { color: colour, width: 1, dash: "dot" },
        hovertemplate: `${plain(name)}, not finished<br>step %{customdata:,}: %{y${unit}<extra></extra>`,
      });
    }
    if (!mean.step.length) continue;
    lines.push({
      x: mean[axis], y: scale(mean[measure]), mode: "lines+markers",
      customdata: mean.step.map((step, i) => [step, low[i], high[i], mean.seeds[i]]),
      line: { color: colour, width, dash }, marker: { color: colour, symbol, size: 7, line: { width: 1.5, color: colour } },
      hovertemplate: `${plain(name)}<br>step %{customdata[0]:,}: %{y${unit}<br>` +
        `%{customdata[1]${unit} to %{customdata[2]${unit} of %{customdata[3]} seeds<extra></extra>`,
    });
  }
  return [...bands, ...lines];
}

function costTraces(costs, hidden, axis, style) {
  return costs.filter((point) => point[axis] !== null && !hidden.has(point.name)).map((point) => {
    const { colour, symbol } = style(point.name);
    return {
      x: [point[axis]], y: [100 * point.top1], mode: "markers",
      marker: { color: colour, symbol, size: 11, line: { width: 1.5, color: colour } },
      error_y: {
        array: [100 * (point.high - point.top1)], arrayminus: [100 * (point.top1 - point.low)],
        symmetric: false, color: colour, thickness: 1, width: 3,
      },
      hovertemplate: `${plain(point.name)}: %{y:.2f} %, ${point.seeds} seeds<br>%{x:,.4~s}<extra></extra>`,
    };
  });
}

// #rrggbb of a colour, to which a transparency can be put.
function hex(colour) {
  return colour.length === 4 ? colour.replace(/[^#]/g, "$&$&") : colour;
}

function draw(name, traces, xaxis, yaxis, threshold) {
  const [ink, quiet, rule] = ["ink", "quiet", "rule"].map(variable);
  const common = { gridcolor: rule, linecolor: quiet, zeroline: false, automargin: true, tickcolor: quiet };
  const shape = { type: "line", xref: "paper", x0: 0, x1: 1, y0: threshold, y1: threshold,
    line: { color: quiet, width: 1, dash: "dash" } };
  const layout = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: ink, size: 12, family: "system-ui, -apple-system, Segoe UI, Roboto, Noto Sans, sans-serif" },
    margin: { l: 48, r: 16, t: 12, b: 44 }, showlegend: false, hovermode: "closest",
    hoverlabel: { bgcolor: variable("card"), bordercolor: quiet, font: { color: ink }, align: "left" },
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // a finger scrolls the page
    xaxis: { ...common, showgrid: false, ticks: "outside", ...xaxis.more,
      nticks: innerWidth > 600 ? 6 : xaxis.more.type === "log" ? 3 : 5, tickformat: xaxis.tickformat, title: { text: xaxis.title, font: { color: quiet } } },
    yaxis: { ...common, ...yaxis },
    shapes: threshold === null ? [] : [shape],
    // A zoom stays while a variant is toggled, not when the axis or the images are others.
    uirevision: `${xaxis.title} ${chosen("set") ?? ""}`,
  };
  Plotly.react(`plot-${name}`, traces, layout, { responsive: true, displayModeBar: false });
}
