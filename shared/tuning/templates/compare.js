// Draws bundles beside each other.
const points = (value) => `${value > 0 ? "+" : ""}${(100 * value).toFixed(1)}`;
const exact = (share) => `${(100 * share).toFixed(1)} %`;
const [first, second] = data.bundles;
document.getElementById("facts").textContent =
  `${data.measure} on ${count(data.examples, "example")} of ${data.split === "all" ? "all splits" : `the split ${data.split}`}${data.left_out ? `; ${count(data.left_out, "example")} that not every bundle was asked about ${data.left_out === 1 ? "is" : "are"} left out` : ""}`;

const span = (low, value, high, from, to, sure = true) => {  // an interval with its middle, on a line from..to
  const width = 300, at = (x) => ((Math.min(to, Math.max(from, x)) - from) / (to - from)) * width;
  const drawn = svg("svg", { viewBox: `-4 0 ${width + 8} 22`, width: "100%", height: 22, role: "img", preserveAspectRatio: "xMinYMid meet", "aria-label": `${exact(low)} to ${exact(high)}`, class: `span${sure ? "" : " unsure"}` });
  drawn.append(svg("line", { x1: 0, x2: width, y1: 11, y2: 11, class: "track" }));
  if (from < 0 && to > 0) drawn.append(svg("line", { x1: at(0), x2: at(0), y1: 1, y2: 21, class: "zero" }));
  drawn.append(svg("line", { x1: at(low), x2: at(high), y1: 11, y2: 11, class: "interval" }), svg("circle", { cx: at(value), cy: 11, r: 5 }));
  return drawn;
};
const table = (heads, rows) => make("div", { class: "scroll" }, make("table", {},
  make("thead", {}, make("tr", {}, ...heads.map(([name, kind]) => make("th", { class: kind }, name)))),
  make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((cell, place) => make("td", { class: heads[place][1] }, cell ?? "–")))))));

const named = (each) => make("span", {}, make("b", {}, each.name),
  ...[each.folder, each.version].filter(Boolean).map((line) => make("span", { class: "small soft", style: "display:block;overflow-wrap:anywhere" }, line)));

section("verdict", "Which is better", make("p", { class: "verdict" }, data.verdict), make("p", { class: "small soft" }, data.explained),
  ...(data.notes || []).map((note) => make("p", { class: "warn" }, note)));

const low = Math.min(...data.bundles.map((each) => each.low)), high = Math.max(...data.bundles.map((each) => each.high));
section("bundles", "The bundles",
  table([["bundle", "name"], [data.measure, "number"], ["95 % interval", "wide"], ["answered", "number"], ["ECE", "number"], ["ms", "number"], ["MB", "number"]],
    data.bundles.map((each) => [named(each), exact(each.value), span(each.low, each.value, each.high, low - 0.01, high + 0.01),
      each.given === null ? null : exact(each.given), each.ece === null ? null : each.ece.toFixed(3), number(each.milliseconds), number(each.megabytes)])),
  make("p", { class: "small soft" }, "ECE: how far confidences are from how often they are right. ms: the network alone, one input at a time, in turns with the others."));

const widest = Math.max(0.005, ...data.pairs.flatMap((pair) => [Math.abs(pair.low), Math.abs(pair.high)]));
section("pairs", "Each beside each", ...data.pairs.map((pair) => make("div", { class: "pair-row" },
  make("p", {}, pair.sentence), span(pair.low, pair.value, pair.high, -widest, widest, pair.is_sure),
  make("p", { class: "small soft" }, `${pair.first} answers ${count(pair.better, "example")} better, ${pair.second} ${pair.worse.toLocaleString("en")}.`))));

for (const [kind, title] of [["label", "By label"], ["length", "By length"], ["language", "By language"]]) {
  const rows = data.parts.filter((part) => part.kind === kind);
  const hidden = data.not_shown[kind];
  if (!rows.length && !hidden) continue;
  const reach = Math.max(0.01, ...rows.slice(0, 30).flatMap((part) => [Math.abs(part.low), Math.abs(part.high)]));
  section(kind, title,
    rows.length ? make("p", { class: "small soft" }, `${first.name} beside ${second.name}. Only what is marked with ● holds when all ${count(rows.length, kind)} are looked at together; the rest may be chance.`) : null,
    hidden ? make("p", { class: "small soft" }, `${hidden}.`) : null,
    rows.length ? more(rows, 15, (some) => table([[kind, "name"], ["examples", "number"], [first.name, "number"], [second.name, "number"], ["difference", "wide"], ["", "number"]],
      some.map((part) => [part.name, part.examples.toLocaleString("en"), exact(part.first), exact(part.second), span(part.low, part.value, part.high, -reach, reach, part.is_sure), `${points(part.value)}${part.is_sure ? " ●" : ""}`]))) : null);
}

if (data.apart.length) {
  const answered = (each) => make("span", {}, each.answer ?? make("i", {}, "no answer"),
    ...[each.confidence === null ? null : `${exact(each.confidence)} sure`, data.is_right_or_wrong ? (each.value ? "right" : "wrong") : `${data.measure} ${exact(each.value)}`]
      .filter(Boolean).map((line) => make("span", { class: "small soft", style: "display:block" }, line)));
  section("apart", "Where they differ", make("p", { class: "small soft" }, `What each answered, how sure it was, and how good that is. ${data.is_right_or_wrong ? "The surest mistakes come first." : "The largest differences come first."}`),
    more(data.apart, 12, (some) => table([["example", "long"], ["label", ""], [first.name, "name"], [second.name, "name"]],
      some.map((each) => [each.text ?? "a photo", each.label, answered(each.first), answered(each.second)]))));
}

if (data.bundles.some((each) => each.reliability.length)) {
  section("calibration", "Are they as sure as they are right?",
    make("p", { class: "small soft" }, "Answers are grouped by how sure they were. Circles on the line are right as often as they are sure; below it, the bundle is too sure. The larger a circle, the more answers."),
    make("div", { class: "cards" }, ...data.bundles.filter((each) => each.reliability.length).map((each) => {
      const side = 220, drawn = svg("svg", { viewBox: `-64 -14 ${side + 86} ${side + 62}`, width: "100%", role: "img", "aria-label": `${each.name}: how sure it was, and how often it was right` });
      const text = (words, attributes) => { const element = svg("text", attributes); element.textContent = words; drawn.append(element); };
      drawn.append(svg("line", { x1: 0, y1: side, x2: side, y2: side, style: "stroke:var(--soft)" }), svg("line", { x1: 0, y1: 0, x2: 0, y2: side, style: "stroke:var(--soft)" }));
      for (const share of [0, 0.5, 1]) {
        text(`${100 * share} %`, { x: share * side, y: side + 18, "text-anchor": "middle" });
        text(`${100 * share} %`, { x: -8, y: side - share * side + 4, "text-anchor": "end" });
      }
      text("sure", { x: side / 2, y: side + 38, "text-anchor": "middle" });
      text("right", { x: -52, y: side / 2, "text-anchor": "middle", transform: `rotate(-90 -52 ${side / 2})` });
      drawn.append(svg("line", { x1: 0, y1: side, x2: side, y2: 0, class: "track" }));
      for (const row of each.reliability) {
        const dot = svg("circle", { cx: row.confidence * side, cy: side - row.accuracy * side, r: 3 + 9 * Math.sqrt(row.count / data.examples) });
        dot.addEventListener("pointermove", (event) => showTip(event, `${count(row.count, "answer")}: sure ${exact(row.confidence)}, right ${exact(row.accuracy)}`));
        dot.addEventListener("pointerleave", () => { tip.hidden = true; });
        drawn.append(dot);
      }
      return make("div", { class: "card" }, make("h3", {}, each.name), drawn);
    })));
}
