// Draws what the records say of a model.
const exact = (share) => `${(100 * share).toFixed(1)} %`;
const when = (iso) => new Date(iso).toLocaleString("en", { dateStyle: "medium", timeStyle: "short", timeZone: "UTC" });
document.getElementById("facts").textContent =
  `${data.model.version}, ${count(data.window.records, "record")} from ${when(data.window.from)} to ${when(data.window.to)} UTC, beside ${count(data.against.examples, data.against.name === "validation data" ? "example" : "record")} of ${data.against.name}`;

const table = (heads, rows) => make("div", { class: "scroll" }, make("table", {},
  make("thead", {}, make("tr", {}, ...heads.map(([name, kind]) => make("th", { class: kind }, name)))),
  make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((cell, place) => make("td", { class: heads[place][1] }, cell ?? "–")))))));
const line = (from, to, reach, label, { mark = null, dot = to, start = true } = {}) => {  // from what was to what is
  const width = 300, at = (x) => (Math.min(reach, Math.max(0, x)) / reach) * width;
  const drawn = svg("svg", { viewBox: `-6 0 ${width + 12} 22`, width: "100%", height: 22, role: "img", preserveAspectRatio: "xMinYMid meet", "aria-label": label, class: "span" });
  drawn.append(svg("line", { x1: 0, x2: width, y1: 11, y2: 11, class: "track" }), svg("line", { x1: at(from), x2: at(to), y1: 11, y2: 11, class: "interval" }));
  if (mark !== null) drawn.append(svg("line", { x1: at(mark), x2: at(mark), y1: 3, y2: 19, style: "stroke:var(--minus);stroke-width:2" }));
  if (start) drawn.append(svg("line", { x1: at(from), x2: at(from), y1: 4, y2: 18, style: "stroke:var(--soft);stroke-width:2" }));
  drawn.append(svg("circle", { cx: at(dot), cy: 11, r: 5 }));
  return drawn;
};

section("verdict", data.state === "alarm" ? "Alarm" : "No alarm", make("p", { class: "verdict" }, data.sentence),
  ...data.notes.map((note) => make("p", { class: "warn" }, note[0].toUpperCase() + note.slice(1))));

const shown = (alarm, value) => alarm.stat === "no_answer_rate" ? exact(value) : value.toFixed(3);
section("alarms", "The two alarms", ...data.alarms.map((alarm) => {
  const reach = alarm.stat === "no_answer_rate" ? Math.min(1, 1.3 * Math.max(alarm.before, alarm.now, alarm.detectable ?? 0, 0.01)) : 1;
  return make("div", { class: "pair-row" },
    make("p", {}, make("b", {}, alarm.is_raised ? "✗ alarm · " : "✓ quiet · "), alarm.sentence),
    line(alarm.before, alarm.now, reach, `${shown(alarm, alarm.before)} before, ${shown(alarm, alarm.now)} now`, { mark: alarm.detectable }),
    make("p", { class: "small soft" }, alarm.power));
}), ...data.not_checked.map((each) => make("p", { class: "warn" }, each[0].toUpperCase() + each.slice(1))),
  make("p", { class: "small soft" }, "The grey mark is what it was, the circle what it is. Beyond the brown mark, a change would be seen four times in five. Each alarm is false in 1 % of windows in which nothing has changed."));

const quality = data.quality;
const measured = [["drawn at random and reviewed", quality.audited], ["by feedback, corrected", quality.corrected], ["by feedback", quality.said ? quality : null]].filter(([, part]) => part);
section("quality", "How often it is right",
  measured.length ? table([["", "name"], ["right", "number"], ["95 % interval", "number"], ["0 to 100 %", "wide"]], measured.map(([name, part]) => [name, exact(part.value), `${exact(part.low)} to ${exact(part.high)}`,
    line(part.low, part.high, 1, `${exact(part.low)} to ${exact(part.high)}`, { dot: part.value, start: false })])) : null,
  ...data.quality_lines.map((each) => make("p", {}, each[0].toUpperCase() + each.slice(1))));

const typical = (group) => group.photos.length
  ? make("div", { class: "sheet" }, ...group.photos.map((photo) => make("img", { src: `data:image/jpeg;base64,${photo}`, alt: `a photo of ${group.name}`, loading: "lazy" })))
  : make("ul", { class: "members" }, ...group.texts.map((text) => make("li", {}, text)));
if (data.groups.length) section("groups", "What is new", make("p", { class: "small soft" }, "Records that get no label, or whose features are far from the usual ones, and that are alike. Their most typical members come first."),
  make("div", { class: "groups" }, ...data.groups.map((group) => make("div", { class: "card group" },
    make("p", {}, make("b", {}, group.name), " ", make("span", { class: "soft" }, count(group.size, "record"))),
    group.nearest ? make("p", { class: "small" }, `Nearest label: ${group.nearest}`) : null,
    typical(group)))));

const { labels, features, sizes, languages } = data.diagnosis;
const heads = { characters: "characters", context_characters: "characters of the passage", width: "width, px", height: "height, px", brightness: "brightness" };
const sized = (each, value) => each.name === "brightness" ? exact(value) : number(value);
section("diagnosis", "What may explain a change", make("p", { class: "small soft" }, "None of this raises an alarm: all of it moves with what people happen to ask for."),
  labels && labels.moved.length ? make("h3", {}, "Labels that moved most") : null,
  labels && labels.moved.length ? table([["label", "name"], ["before", "number"], ["now", "number"], ["", "wide"]], labels.moved.map((each) => [each.label, exact(each.before), exact(each.now),
    line(each.before, each.now, Math.max(...labels.moved.flatMap((any) => [any.before, any.now])), `${exact(each.before)} before, ${exact(each.now)} now`)])) : null,
  labels && labels.p !== null ? make("p", { class: "small soft" }, `Chi-squared over all labels: p ${labels.p < 1e-4 ? "< 0.0001" : `= ${labels.p.toFixed(4)}`}.`) : null,
  features ? make("h3", {}, "Features") : null,
  features ? make("p", {}, `The cosine of their mean with the reference's is ${features.cosine.toFixed(3)}. ${exact(features.far)} of ${count(features.records, "record")} are farther from it than 99 % of the reference.`) : null,
  sizes.length ? make("h3", {}, "Sizes of the inputs") : null,
  sizes.length ? table([["", "name"], ["5 %", "number"], ["middle", "number"], ["95 %", "number"], ["middle before", "number"]],
    sizes.map((each) => [heads[each.name], ...each.now.map((value) => sized(each, value)), each.before ? sized(each, each.before[1]) : null])) : null,
  languages.length ? make("h3", {}, "Languages") : null,
  languages.length ? table([["", "name"], ["now", "number"], ["before", "number"]], languages.map((each) => [each.code ? new Intl.DisplayNames("en", { type: "language" }).of(each.code) : "not clear", exact(each.now), each.before === null ? null : exact(each.before)])) : null);
