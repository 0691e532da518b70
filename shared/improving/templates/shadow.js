// Draws what a candidate answered silently beside the live model, for whoever decides.
const exact = (share) => share === null ? null : `${(100 * share).toFixed(1)} %`;
const at = (time) => time.replace("T", " ");
document.getElementById("facts").textContent =
  `candidate ${data.candidate} beside ${data.live.join(", ")}; ${count(data.pairs, "answer")}, ${at(data.first)} to ${at(data.last)} UTC`;
const table = (heads, rows) => make("div", { class: "scroll" }, make("table", {},
  make("thead", {}, make("tr", {}, ...heads.map(([name, kind]) => make("th", { class: kind }, name)))),
  make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((cell, place) => make("td", { class: heads[place][1] }, cell ?? "–")))))));
const span = (low, value, high, least, most, label) => {  // an interval on a line
  const width = 300, place = (x) => ((x - least) / (most - least)) * width;
  const drawn = svg("svg", { viewBox: `-6 0 ${width + 12} 22`, width: "100%", height: 22, role: "img", preserveAspectRatio: "xMinYMid meet", "aria-label": label, class: "span" });
  drawn.append(svg("line", { x1: 0, x2: width, y1: 11, y2: 11, class: "track" }));
  if (least < 0) drawn.append(svg("line", { x1: place(0), x2: place(0), y1: 1, y2: 21, class: "zero" }));
  drawn.append(svg("line", { x1: place(low), x2: place(high), y1: 11, y2: 11, class: "interval" }), svg("circle", { cx: place(value), cy: 11, r: 5 }));
  return drawn;
};

section("verdict", "What was found", make("p", { class: "verdict" }, data.sentence));

const agreement = data.agreement;
section("agreement", "How often they agree",
  make("p", {}, make("b", {}, exact(agreement.value)), ` of the answers have the same labels; ${exact(agreement.low)} to ${exact(agreement.high)} (95 % interval).`),
  span(agreement.low, agreement.value, agreement.high, 0, 1, `${exact(agreement.low)} to ${exact(agreement.high)}`));

const nothing = { intent: "out of scope", tagging: "without a tag", qa: "without an answer" }[data.task];
const { live, candidate } = data.sides;
section("sides", "Both side by side", table([["", "name"], ["live", "number"], ["candidate", "number"]], [
  [nothing, exact(live.without_answer), exact(candidate.without_answer)],
  ["mean confidence", live.confidence?.toFixed(3), candidate.confidence?.toFixed(3)],
  ...(live.out_of_scope_score === null ? [] : [["mean out-of-scope score", live.out_of_scope_score.toFixed(3), candidate.out_of_scope_score?.toFixed(3)]]),
]));

const judged = data.judged;
if (judged) {
  const reach = 1.2 * Math.max(Math.abs(judged.low), Math.abs(judged.high), 0.01);
  section("judged", "Who was right",
    table([["", "name"], ["right", "number"]], [["live", exact(judged.live)], ["candidate", exact(judged.candidate)]]),
    make("p", {}, `People said what is right for ${count(judged.examples, "answer")}. The candidate alone is right in ${judged.better}, the live model alone in ${judged.worse} (McNemar's exact test: p = ${judged.p < 0.001 ? judged.p.toExponential(1) : judged.p.toFixed(3)}). The difference, with its 95 % interval:`),
    span(judged.low, judged.difference, judged.high, -reach, reach, `${exact(judged.low)} to ${exact(judged.high)}`),
    make("p", { class: "small soft" }, `So many answers would show a difference of ${(100 * judged.detectable).toFixed(1)} points four times in five. People judge what they please, and more often what is wrong: the difference between the two is worth more than either share.`));
}

section("changes", "What changes", data.changes.length
  ? more(data.changes, 20, (some) => table([["live", "name"], ["candidate", "name"], ["answers", "number"], ["confidence", "number"]],
    some.map((each) => [each.from, each.to, each.count.toLocaleString("en"), each.confidence[0] === null ? null : `${each.confidence[0].toFixed(2)} → ${each.confidence[1].toFixed(2)}`])))
  : make("p", {}, "Nothing: all answers are the same."));
