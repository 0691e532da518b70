// Draws a search: what each trial came to, and what made the difference.
const trials = data.trials, best = trials.find((each) => each.number === data.best), own = trials.find((each) => each.number === data.recipe);
const short = (value) => typeof value === "number" ? (Number.isInteger(value) ? value.toLocaleString("en") : Number(value.toPrecision(3)).toString()) : String(value);
const score = (value) => value === null ? "–" : value.toFixed(4);
const names = Object.keys(data.space);
const reached = trials.map((each) => each.value).filter((value) => value !== null);
const lowest = Math.min(...reached), highest = Math.max(...reached);
const shade = (value) => `hsl(${215 - 190 * (highest > lowest ? (value - lowest) / (highest - lowest) : 1)} 65% 50%)`;
const told = (each) => [
  make("b", {}, `Trial ${each.number}${each.is_recipe ? " · the recipe as it is" : ""}`), make("br"),
  `${score(each.value)} · ${each.state} · ${count(each.epochs, "epoch")}${each.minutes === null ? "" : ` · ${each.minutes.toFixed(1)} min`}`, make("br"),
  names.map((name) => `${name} ${short(each.params[name])}`).join(", "), each.error && make("br"), each.error && each.error,
];
const hover = (element, each) => {
  element.addEventListener("pointermove", (event) => showTip(event, ...told(each)));
  element.addEventListener("pointerleave", () => { tip.hidden = true; });
  return element;
};
const states = Object.entries(data.counts).filter(([, many]) => many).map(([state, many]) => `${many} ${state}`).join(", ");
document.getElementById("facts").textContent =
  `${count(trials.length, "trial")} for ${data.task} (${states}), sampler ${data.sampler}, pruner ${data.pruner}${data.folds ? `, each over ${data.folds} folds` : ""}; ${count(data.epochs, "epoch")} in ${data.minutes.toFixed(1)} minutes of training. Quality is on validation examples: measure what you choose on the test split.`;

const axes = (width, height, left, bottom, ticksX, ticksY, titleX) => svg("g", {},
  ...ticksY.map(([at, text]) => svg("g", {}, svg("line", { x1: left, x2: width, y1: at, y2: at, class: "line" }), svg("text", { x: left - 6, y: at + 4, "text-anchor": "end", class: "tick" }, text))),
  ...ticksX.map(([at, text]) => svg("text", { x: at, y: height - bottom + 16, "text-anchor": "middle", class: "tick" }, text)),
  svg("text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle", class: "tick" }, titleX));
const W = 720, H = 300, L = 52, B = 40;
const room = Math.max(1e-6, highest - lowest) * 0.06;
const y = (value) => 10 + (H - B - 10) * (highest + room - value) / (highest - lowest + 2 * room);
const ticksY = () => [0, 1, 2, 3, 4].map((i) => lowest + (highest - lowest) * i / 4).filter((v, i, all) => !i || v !== all[i - 1]).map((value) => [y(value), value.toFixed(3)]);
const spread = (many) => Array.from({ length: Math.min(many + 1, 9) }, (_, i) => Math.round(many * i / Math.max(1, Math.min(many, 8)))).filter((v, i, all) => !i || v !== all[i - 1]);
const chart = (label, ...children) => make("div", { class: "scroll" }, svg("svg", { viewBox: `0 0 ${W} ${H}`, class: "chart", role: "img", "aria-label": label }, ...children));

if (best) {
  section("best", "The best", make("p", {}, make("b", {}, score(best.value)), ` in trial ${best.number}${best.is_recipe ? ", the recipe as it is" : ""}${data.folds ? ` (folds ${best.by_fold.map((value) => value.toFixed(3)).join(", ")})` : ""}`,
    own && own !== best && own.value !== null ? `; the recipe as it is comes to ${score(own.value)}${own.state === "finished" ? "" : ` until it was ended`}.` : "."),
  make("div", { class: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, make("th", {}, "setting"), make("th", {}, "best"), own && own !== best ? make("th", {}, "recipe") : null, make("th", {}, "tried"))),
    make("tbody", {}, ...names.map((name) => make("tr", {}, make("td", {}, name), make("td", {}, make("b", {}, short(best.params[name]))), own && own !== best ? make("td", {}, short(own.params[name])) : null,
      make("td", { class: "soft" }, Array.isArray(data.space[name]) ? data.space[name].map(short).join(", ") : `${short(data.space[name].low)} to ${short(data.space[name].high)}`)))))),
  make("p", { class: "soft" }, `percept fit ${data.task} -c …/${data.folder}/best.yaml trains it again, exactly.`));
}

if (reached.length) {
  const last = Math.max(1, ...trials.map((each) => each.number));
  const x = (at) => L + 10 + (W - L - 24) * at / last;
  let top = -Infinity;
  const steps = trials.filter((each) => each.state === "finished").sort((a, b) => a.number - b.number).map((each) => { top = Math.max(top, each.value); return [each.number, top]; });
  const line = steps.map(([at, value], i) => i ? `H${x(at)}V${y(value)}` : `M${x(at)} ${y(value)}`).join("");
  section("history", "Trial by trial",
    chart("The quality of each trial, and the best so far",
      axes(W, H, L, B, spread(last).map((at) => [x(at), at]), ticksY(), "trial"),
      svg("path", { d: `${line}${steps.length ? `H${x(last)}` : ""}`, fill: "none", stroke: "currentColor", "stroke-width": 1.5, opacity: 0.6 }),
      ...trials.filter((each) => each.value !== null).map((each) => hover(svg("circle", { cx: x(each.number), cy: y(each.value), r: each === best ? 7 : 5, fill: each.state === "finished" ? shade(each.value) : "none", stroke: each.state === "finished" ? (each === best ? "currentColor" : "none") : shade(each.value), "stroke-width": 1.5 }), each))),
    make("p", { class: "soft" }, "Full: finished. Hollow: ended early or still running, at the best epoch. The line is the best so far."));

  const longest = Math.max(1, ...trials.flatMap((each) => each.curves.map((curve) => curve.length)));
  const points = trials.flatMap((each) => each.curves.flat());
  if (points.length) {
    const low = Math.min(...points), high = Math.max(...points), gap = Math.max(1e-6, high - low) * 0.04;
    const across = (at) => L + 10 + (W - L - 24) * (longest > 1 ? at / (longest - 1) : 0.5);
    const up = (value) => 10 + (H - B - 10) * (high + gap - value) / (high - low + 2 * gap);
    const ticks = [0, 1, 2, 3, 4].map((i) => low + (high - low) * i / 4).filter((v, i, all) => !i || v !== all[i - 1]).map((value) => [up(value), value.toFixed(3)]);
    section("curves", "Epoch by epoch",
      chart("Quality after each epoch, a line for each trial", axes(W, H, L, B, spread(longest - 1).map((at) => [across(at), at + 1]), ticks, "epoch"),
        ...trials.flatMap((each) => each.curves.filter((curve) => curve.length).map((curve) => hover(svg("g", {},
          svg("polyline", { points: curve.map((value, at) => `${across(at)},${up(value)}`).join(" "), fill: "none", stroke: each.value === null ? "gray" : shade(each.value), "stroke-width": each === best ? 3 : 1.5, opacity: each === best ? 1 : 0.7, "stroke-dasharray": each.state === "finished" ? "none" : "4 3" }),
          svg("circle", { cx: across(curve.length - 1), cy: up(curve[curve.length - 1]), r: 3, fill: each.value === null ? "gray" : shade(each.value) })), each)))),
      make("p", { class: "soft" }, `A line for each trial${data.folds ? " and fold" : ""}; dashed ones were ended early. Blue is the lowest quality, orange the highest, the best is the thick one.`));
  }

  const w = Math.max(W, 120 * names.length), h = 340, edge = 70;
  const at = (place) => edge + (w - 2 * edge) * (names.length ? place / names.length : 0);
  const height = (name, value) => {
    const values = data.space[name];
    if (Array.isArray(values)) return 40 + (h - 90) * (values.length > 1 ? 1 - values.findIndex((each) => each === value) / (values.length - 1) : 0.5);
    const scaled = values.log ? Math.log : (v) => v;
    return 40 + (h - 90) * (1 - (scaled(value) - scaled(values.low)) / (scaled(values.high) - scaled(values.low)));
  };
  const quality = (value) => 40 + (h - 90) * (highest > lowest ? 1 - (value - lowest) / (highest - lowest) : 0);
  const marks = (name) => Array.isArray(data.space[name]) ? data.space[name].map((value) => [value, short(value)]) : [[data.space[name].low, short(data.space[name].low)], [data.space[name].high, short(data.space[name].high)]];
  section("parallel", "Which settings go with which quality",
    make("div", { class: "scroll" }, svg("svg", { viewBox: `0 0 ${w} ${h}`, class: "chart", style: `min-width:${Math.min(w, 110 * (names.length + 1))}px`, role: "img", "aria-label": "Parallel coordinates of all trials" },
      ...trials.filter((each) => each.value !== null).sort((a, b) => a.value - b.value).map((each) => hover(svg("polyline", {
        points: [...names.map((name, place) => `${at(place)},${height(name, each.params[name])}`), `${at(names.length)},${quality(each.value)}`].join(" "),
        fill: "none", stroke: shade(each.value), "stroke-width": each === best ? 3.5 : 1.5, opacity: each.state === "finished" ? 0.85 : 0.35 }), each)),
      ...names.map((name, place) => svg("g", {}, svg("line", { x1: at(place), x2: at(place), y1: 40, y2: h - 50, stroke: "currentColor", opacity: 0.5 }),
        svg("text", { x: at(place), y: place % 2 ? h - 6 : h - 24, "text-anchor": "middle", class: "tick" }, name.replace(/^(model|data|trainer)\./, "")),
        ...marks(name).map(([value, text]) => svg("text", { x: at(place) - 5, y: height(name, value) + 4, "text-anchor": "end", class: "tick" }, text)))),
      svg("g", {}, svg("line", { x1: at(names.length), x2: at(names.length), y1: 40, y2: h - 50, stroke: "currentColor" }),
        svg("text", { x: at(names.length), y: names.length % 2 ? h - 6 : h - 24, "text-anchor": "middle", class: "tick" }, "quality"),
        ...[lowest, highest].map((value) => svg("text", { x: at(names.length) + 5, y: quality(value) + 4, class: "tick" }, value.toFixed(3))))))) ;
}

section("importance", "What mattered",
  data.importance ? bars(Object.entries(data.importance).map(([name, share]) => [name, Math.round(100 * share)]), 100) : make("p", {}, "Fewer than 8 trials are finished, or all are as good: nothing can be said of which settings matter."),
  data.importance ? make("p", { class: "soft" }, "In percent: by how much the settings of good trials differ from those of all (PED-ANOVA).") : null);

const costs = trials.filter((each) => each.minutes !== null).sort((a, b) => b.minutes - a.minutes);
section("cost", "What it cost", more(costs, 12, (shown) => bars(shown.map((each) => [`trial ${each.number}${each.state === "finished" ? "" : `, ${each.state}`}`, Number(each.minutes.toFixed(2))]), Math.max(0.01, costs[0]?.minutes ?? 0))),
  make("p", { class: "soft" }, "Minutes of training."));

section("trials", "All trials", more([...trials].sort((a, b) => (b.value ?? -1) - (a.value ?? -1)), 30, (shown) => make("div", { class: "scroll" }, make("table", {},
  make("thead", {}, make("tr", {}, ...["trial", "quality", "", "epochs", ...names.map((name) => name.replace(/^(model|data|trainer)\./, ""))].map((title) => make("th", {}, title)))),
  make("tbody", {}, ...shown.map((each) => make("tr", {}, make("td", {}, `${each.number}${each.is_recipe ? " (recipe)" : ""}`), make("td", {}, each === best ? make("b", {}, score(each.value)) : score(each.value)),
    make("td", { class: "soft" }, each.error || each.state), make("td", {}, each.epochs), ...names.map((name) => make("td", {}, short(each.params[name]))))))))));
