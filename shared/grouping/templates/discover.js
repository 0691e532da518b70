// Draws the groups, and lets a person name, merge, split and dismiss them.
const store = `percept-groups-${data.fingerprint}`;
const whole = data.groups.map((group, place) => ({ key: String(place), place, rows: group.rows, name: group.name, kept: true }));
let groups = whole;
try { groups = JSON.parse(localStorage.getItem(store) || "null") || whole; } catch { /* a page from a file may not keep anything */ }
const keep = () => { try { localStorage.setItem(store, JSON.stringify(groups)); } catch { /* likewise */ } };
const thumb = (row) => data.thumbs[row] ? make("img", { src: `data:image/jpeg;base64,${data.thumbs[row]}`, alt: `row ${row}`, loading: "lazy" }) : null;
const member = (row) => data.thumbs[row] ? thumb(row) : data.texts[row] === undefined ? null : make("li", {}, data.texts[row]);
const members = (rows, shown) => {
  const drawn = rows.map(member).filter(Boolean).slice(0, shown);
  return make(Object.keys(data.thumbs).length ? "div" : "ul", { class: Object.keys(data.thumbs).length ? "sheet" : "members" }, ...drawn);
};
const known = data.fits.reduce((sum, [, rows]) => sum + rows, 0);
document.getElementById("facts").textContent = [
  `${count(data.examined, "row")} without a label`, `${count(data.groups.length, "group")}`, `${count(data.alone.length, "row")} in none`,
  known ? `${count(known, "further row")} fit a label that the model knows` : null, `looked at by ${data.eyes}`,
].filter(Boolean).join(" · ");

const said = { silhouette: "compactness (silhouette, -1 to 1)", stability: "found again in four fifths of the rows (adjusted Rand index)", hidden_labels_found_again: "known labels found again when they were hidden (adjusted Rand index)", nmi: "agreement with the labels (NMI)", ari: "agreement with the labels (adjusted Rand index)", accuracy: "rows whose group stands for their label" };

const list = make("div", { class: "groups" }), told = make("span", { class: "soft small" });
const draw = () => {
  const names = [...new Set(groups.filter((group) => group.kept).map((group) => group.name))];
  told.textContent = `${count(names.length, "label")} so far; ${count(groups.filter((group) => !group.kept).length, "group")} dismissed`;
  list.replaceChildren(...groups.map(drawOne));
};
const change = (group, what) => { Object.assign(group, what); keep(); draw(); };
const split = (group) => {
  const second = new Set(data.groups[group.place].rows.filter((_, place) => data.groups[group.place].second[place]));
  const parts = [group.rows.filter((row) => !second.has(row)), group.rows.filter((row) => second.has(row))];
  groups = groups.flatMap((each) => each !== group ? [each] : parts.map((rows, place) => ({ ...group, key: `${group.key}.${place}`, rows, name: `${group.name} ${place + 1}`, isHalf: true })));
  keep();
  draw();
};
const drawOne = (group) => {
  const of = data.groups[group.place], same = groups.filter((each) => each !== group && each.kept && each.name === group.name);
  const canSplit = !group.isHalf && of.second.some(Boolean) && !of.second.every(Boolean);
  const merge = make("select", { "aria-label": "Same as", onchange: (event) => event.target.value && change(group, { name: event.target.value }) },
    make("option", { value: "" }, "Same as …"), ...[...new Set(groups.filter((each) => each !== group && each.kept && each.name !== group.name).map((each) => each.name)), ...data.fits.map(([name]) => name), ...(of.nearest ? [of.nearest] : [])].filter((name, place, all) => all.indexOf(name) === place).map((name) => make("option", { value: name }, name)));
  return make("div", { class: `card group${group.kept ? "" : " done"}` },
    make("div", { class: "controls" },
      make("input", { value: group.name, "aria-label": "Name", disabled: !group.kept, onchange: (event) => change(group, { name: event.target.value.trim() || group.name }) }),
      make("span", { class: "soft" }, count(group.rows.length, "row"))),
    same.length ? make("p", { class: "small" }, `One label with ${count(same.length, "other group")}.`) : null,
    of.words.length ? make("p", { class: "small soft" }, of.words.join(", ")) : null,
    of.tags.length ? make("p", { class: "small soft" }, `looks like ${of.tags.join(", ")}`) : null,
    of.nearest ? make("p", { class: "small" }, of.is_part ? make("b", {}, `Rather a part of ${of.nearest}`) : `Nearest known label: ${of.nearest}`) : null,
    members(group.rows, data.typical),
    make("div", { class: "controls" }, merge,
      canSplit && group.kept ? make("button", { onclick: () => split(group) }, "Split") : null,
      make("button", { onclick: () => change(group, { kept: !group.kept }) }, group.kept ? "Dismiss" : "Take back")));
};
const save = () => {
  const line = (row, what) => JSON.stringify({ sha256: data.sha256[row], row: Number(row), kind: "discover", ...what });
  const lines = groups.flatMap((group) => group.rows.map((row) => line(row, group.kept
    ? { action: "relabel", column: data.column, value: group.name } : { action: "drop" })));
  lines.push(...data.alone.map((row) => line(row, { action: "drop" })));
  lines.push(...Object.entries(data.fitted).map(([row, name]) => line(row, { action: "relabel", column: data.column, value: name })));
  make("a", { href: URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: "application/jsonl" })), download: "plan.decisions.jsonl" }).click();
};

section("groups", "Groups",
  make("p", { class: "small soft" }, "Name each group as you would name a label. Two groups with one name become one label; a dismissed group is left out. Put the file beside plan.yaml in place of the one there, and run percept clean."),
  make("div", { class: "controls" }, make("button", { class: "primary", onclick: save }, "Save plan.decisions.jsonl"),
    make("button", { onclick: () => { groups = whole.map((group) => ({ ...group })); keep(); draw(); } }, "Start again"), told),
  list);
draw();

if (data.map.length) {
  const canvas = make("canvas", { width: 1100, height: 720, role: "img", "aria-label": "map of the rows by likeness" }), pen = canvas.getContext("2d");
  const spots = data.map.map(([x, y, row, of]) => ({ x: 20 + x * 1060, y: 20 + y * 680, row, of }));
  for (const spot of [...spots].sort((a, b) => a.of - b.of)) {
    pen.fillStyle = spot.of === data.none ? "#9aa5a2" : colour(spot.of);
    pen.globalAlpha = spot.of === data.none ? 0.45 : 0.9;
    pen.beginPath();
    pen.arc(spot.x, spot.y, spot.of === data.none ? 3 : 5, 0, 7);
    pen.fill();
  }
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect(), x = ((event.clientX - box.left) / box.width) * 1100, y = ((event.clientY - box.top) / box.height) * 720;
    const near = spots.reduce((best, spot) => { const away = (spot.x - x) ** 2 + (spot.y - y) ** 2; return away < best[0] ? [away, spot] : best; }, [400, null])[1];
    if (!near) { tip.hidden = true; return; }
    showTip(event, thumb(near.row), make("b", {}, near.of === data.none ? "in no group" : data.groups[near.of].name), make("div", {}, data.texts[near.row] ?? `row ${near.row}`));
  });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  section("map", "Map", make("p", { class: "small soft" }, "Rows that are alike are near to each other (t-SNE); grey ones are in no group."), canvas);
}
const seen = data.alone.filter((row) => data.texts[row] !== undefined || data.thumbs[row]).length;
if (data.alone.length) section("alone", "In no group", seen < data.alone.length ? make("p", { class: "small soft" }, `${seen} of ${count(data.alone.length, "row")}`) : null, more(data.alone.filter((row) => data.texts[row] !== undefined || data.thumbs[row]), 12, (rows) => members(rows, rows.length)));
if (data.fits.length) section("fits", "Fit a known label", more(data.fits, 15, (items) => bars(items)));
section("measures", "How sure the groups are", make("table", {}, make("tbody", {}, ...Object.entries(data.measures).map(([name, value]) => make("tr", {}, make("td", {}, said[name] || name), make("td", { class: "number" }, value.toFixed(3)))))));
