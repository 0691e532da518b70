// Draws what a gate has found, for whoever decides.
const exact = (share) => `${(100 * share).toFixed(1)} %`;
const states = { holds: "✓ holds", fails: "✗ fails", open: "? open" };
document.getElementById("facts").textContent =
  `${data.candidate.version} over ${data.over.version}, on ${count(data.examples, "example")} of ${data.split === "all" ? "all splits" : `the split ${data.split}`} that neither has learned from${data.left_out ? `; ${count(data.left_out, "example")} that only one of them was asked about ${data.left_out === 1 ? "is" : "are"} left out` : ""}`;

const table = (heads, rows) => make("div", { class: "scroll" }, make("table", {},
  make("thead", {}, make("tr", {}, ...heads.map(([name, kind]) => make("th", { class: kind }, name)))),
  make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((cell, place) => make("td", { class: heads[place][1] }, cell ?? "–")))))));
const span = (low, value, high, bound, reach) => {  // an interval on a line, with the bound as a mark
  const width = 300, at = (x) => ((Math.min(reach, Math.max(-reach, x)) + reach) / (2 * reach)) * width;
  const drawn = svg("svg", { viewBox: `-4 0 ${width + 8} 22`, width: "100%", height: 22, role: "img", preserveAspectRatio: "xMinYMid meet", "aria-label": `${low} to ${high}`, class: "span" });
  drawn.append(svg("line", { x1: 0, x2: width, y1: 11, y2: 11, class: "track" }), svg("line", { x1: at(0), x2: at(0), y1: 1, y2: 21, class: "zero" }));
  drawn.append(svg("line", { x1: at(bound), x2: at(bound), y1: 3, y2: 19, style: "stroke:var(--minus);stroke-width:2" }));
  drawn.append(svg("line", { x1: at(low), x2: at(high), y1: 11, y2: 11, class: "interval" }), svg("circle", { cx: at(value), cy: 11, r: 5 }));
  return drawn;
};
const lost = (check) => `at most ${(100 * check.bound).toFixed(1)} points lost`;
const bounds = { quality: lost, label: lost, calibration: (check) => `at most ${check.bound} more`, speed: (check) => `at most ${check.bound} times as long`, labels: () => "knows all labels" };
const shown = (check, value) => value === null ? null : check.kind === "calibration" ? value.toFixed(3) : check.kind === "speed" ? `${value.toFixed(2)} ms` : exact(value);
const drawn = (check) => {
  if (check.low === null) return null;
  const bound = check.kind === "calibration" ? check.bound : -check.bound;
  return span(check.low, check.value, check.high, bound, 1.2 * Math.max(Math.abs(check.low), Math.abs(check.high), Math.abs(bound)));
};
const rows = (checks) => table([["what", "name"], ["", ""], ["examples", "number"], ["before", "number"], ["now", "number"], ["difference, 90 % interval", "wide"], ["bound", ""]],
  checks.map((check) => [check.name, make("b", {}, states[check.state]), check.examples === null ? null : check.examples.toLocaleString("en"), shown(check, check.live), shown(check, check.candidate), drawn(check), bounds[check.kind](check)]));

section("verdict", data.decision, make("p", { class: "verdict" }, data.sentence), make("p", { class: "small soft" }, data.explained),
  ...data.notes.map((note) => make("p", { class: "warn" }, note)));

const done = data.promotion;
if (done) {
  section("promotion", "What was done",
    make("p", {}, done.before ? `${done.by} made ${done.version} live in place of ${done.before}, ${done.when}${done.is_forced ? ", in spite of the gate" : ""}.` : `${done.by} made ${done.version} live, ${done.when}.`),
    done.reason ? make("p", {}, `Reason: ${done.reason}`) : null,
    ...done.told.map((line) => make("p", { class: done.is_live ? "" : "warn" }, line[0].toUpperCase() + line.slice(1))));
}

section("checks", "What was checked", rows(data.checks.filter((check) => check.kind !== "label")),
  make("p", { class: "small soft" }, "The interval is where the difference is; each end is sure at 95 %. It must not reach the mark. What is open has too few examples to tell."));

const labels = data.checks.filter((check) => check.kind === "label");
if (labels.length) section("labels", "By label", make("p", { class: "small soft" }, "Of a label only what was measured, the dot, must not be beyond the mark: so few examples cannot rule out more."), more(labels, 15, rows));
if (data.not_checked.length) section("unchecked", "What was not checked", ...data.not_checked.map((line) => make("p", {}, line)));

section("power", "What this gate would have noticed", make("p", {}, data.power.sentence));

section("bundles", "The two bundles", table([["bundle", "name"], ["version", "name"], [data.measure, "number"], ["answered", "number"], ["ECE", "number"], ["ms", "number"], ["MB", "number"]],
  data.bundles.map((each) => [each.name, make("span", {}, each.version, make("span", { class: "small soft", style: "display:block;overflow-wrap:anywhere" }, each.folder)), exact(each.value), each.given === null ? null : exact(each.given), each.ece === null ? null : each.ece.toFixed(3), number(each.milliseconds), number(each.megabytes)])),
  make("p", { class: "small soft" }, "ECE: how far confidences are from how often they are right. ms: the network alone, one input at a time, in turns."));

if (data.apart.length) {
  const answered = (each) => make("span", {}, each.answer ?? make("i", {}, "no answer"),
    ...[each.confidence === null ? null : `${exact(each.confidence)} sure`, data.is_right_or_wrong ? (each.value ? "right" : "wrong") : `${data.measure} ${exact(each.value)}`]
      .filter(Boolean).map((line) => make("span", { class: "small soft", style: "display:block" }, line)));
  const [first, second] = data.bundles;
  section("apart", "Where they differ", more(data.apart, 12, (some) => table([["example", "long"], ["label", ""], [first.name, "name"], [second.name, "name"]],
    some.map((each) => [each.text ?? "a photo", each.label, answered(each.first), answered(each.second)]))));
}
