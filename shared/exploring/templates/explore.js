// Draws what was found in a dataset.
const KINDS = {
  broken: "cannot be read", leak: "in two splits", near_leak: "nearly in two splits", duplicate: "copies",
  near_duplicate: "nearly copies", contradiction: "contradictions", label_spelling: "spellings of labels", label_error: "likely label errors",
  personal_data: "personal data", missing: "missing values", outlier: "outliers",
};
const thumb = (row, height = 72) => data.thumbs[row]
  ? make("img", { src: `data:image/jpeg;base64,${data.thumbs[row]}`, alt: `row ${row}`, height, loading: "lazy" }) : null;
const byRow = new Map(data.table.rows.map((row) => [row[0], row.slice(1)]));

const describe = (row) => {
  const cells = byRow.get(row) || [];
  return data.table.columns.map((name, place) => [name, cells[place]]).filter(([, value]) => value !== null && value !== undefined)
    .map(([name, value]) => make("div", {}, make("b", {}, `${name}: `), String(value).slice(0, 160)));
};

document.getElementById("facts").textContent = [
  count(data.rows, "row"), Object.entries(data.splits).map(([name, rows]) => `${rows.toLocaleString("en")} ${name}`).join(", "),
  data.eyes ? `looked at by ${data.eyes}` : "looked at without a model", `fingerprint ${data.fingerprint}`,
].join(" · ");

// What looks wrong, and what a person decides about it: one decision per row, and what it is kept from
const store = `percept-decisions-${data.fingerprint}`;
const keyOf = ({ sha256, row, kind }, action) => `${action === "keep" ? kind : "row"} ${sha256} ${row}`;
let decisions = {};
try {  // a page from a file may not keep anything
  for (const each of Object.values(JSON.parse(localStorage.getItem(store) || "{}"))) decisions[keyOf(each, each.action)] = each;
} catch { decisions = {}; }
const keep = () => { try { localStorage.setItem(store, JSON.stringify(decisions)); } catch { /* likewise */ } };
const LABELS = data.labels?.choices || [];
const isAboutLabel = (finding) => ["label_error", "label_spelling", "contradiction"].includes(finding.kind)
  || (finding.kind === "missing" && finding.column === data.roles.label);
const choiceOf = (finding) => finding.kind === "near_duplicate" ? { action: "together", value: finding.other_sha256 }
  : finding.kind === "personal_data" ? { action: "redact" }
    : isAboutLabel(finding) && finding.suggested ? { action: "relabel", value: finding.suggested } : { action: "drop" };
const SAID = { relabel: (value) => `Label “${value}”`, redact: () => "Redact", drop: () => "Leave out", together: () => "Keep in one split" };
const madeOf = (finding) => decisions[keyOf(finding, "keep")] || decisions[keyOf(finding)];
const isMade = (finding, { action, value = null }) => {
  const made = decisions[keyOf(finding, action)];
  return made?.action === action && (made.value ?? null) === value;
};
const decide = (finding, { action, value = null }) => {
  const wanted = !isMade(finding, { action, value });
  if (action !== "keep" || decisions[keyOf(finding)]?.kind === finding.kind) delete decisions[keyOf(finding)];
  delete decisions[keyOf(finding, "keep")];
  if (wanted) decisions[keyOf(finding, action)] = { sha256: finding.sha256, row: finding.row, kind: finding.kind, action, column: finding.column, value };
  keep();
};
const save = () => {
  const lines = Object.values(decisions).map((each) => JSON.stringify(each)).join("\n");
  const link = make("a", { href: URL.createObjectURL(new Blob([`${lines}\n`], { type: "application/jsonl" })), download: "decisions.jsonl" });
  link.click();
};
const findings = () => {
  const kinds = Object.keys(KINDS).filter((kind) => data.kinds[kind]);
  if (!kinds.length) return section("findings", "Nothing looks wrong", make("p", { class: "soft" }, "Of what was looked for, nothing was found: copies, leaks, contradictions, labels spelled in several ways, likely label errors, personal data, missing values, outliers."));
  let chosen = kinds.includes("label_error") ? "label_error" : kinds[0], current = 0, shown = 12, isAsked = false;
  const list = make("div", { role: "list", tabindex: 0, "aria-label": "Findings" }), tabs = make("div", { class: "controls" });
  const told = make("span", { class: "soft small" });
  const saving = make("button", { class: "primary", onclick: save }, "Save decisions.jsonl");
  const accepting = make("button", { onclick: () => {
    if (isAsked) undecided().forEach((finding) => decide(finding, choiceOf(finding)));
    isAsked = !isAsked;
    draw(false, isAsked);
  } });
  const rows = () => data.findings.filter((finding) => finding.kind === chosen);
  const undecided = () => {
    const seen = new Set();
    return rows().slice(0, shown).filter((finding) => !madeOf(finding) && !seen.has(keyOf(finding)) && seen.add(keyOf(finding)));
  };
  const draw = (focus = false, asked = false) => {
    isAsked = asked;
    tabs.replaceChildren(...kinds.map((kind) => make("button", {
      "aria-pressed": String(kind === chosen), onclick: () => { chosen = kind; current = 0; shown = 12; draw(); },
    }, `${KINDS[kind]} ${data.kinds[kind].toLocaleString("en")}`)));
    const all = rows(), open = undecided().length;
    list.replaceChildren(...all.slice(0, shown).map((finding, place) => drawOne(finding, place)));
    if (all.length > shown) list.append(make("div", { class: "controls" }, make("button", { onclick: () => { shown += 40; draw(); } }, "Show more")));
    if (data.kinds[chosen] > all.length) list.append(make("p", { class: "soft small" }, `findings.jsonl has all ${data.kinds[chosen].toLocaleString("en")}.`));
    const made = Object.keys(decisions).length;
    told.textContent = made ? `${count(made, "decision")} so far` : "No decisions yet";
    saving.disabled = !made;
    accepting.disabled = !open;
    accepting.textContent = isAsked ? `Really accept ${open}?` : "Accept all shown";
    if (focus) list.querySelector(".current")?.scrollIntoView({ block: "nearest" });
  };
  const drawOne = (finding, place) => {
    const made = madeOf(finding), suggestion = choiceOf(finding);
    const choose = (choice) => { current = place; decide(finding, choice); draw(); };
    const button = (choice, text) => make("button", { "aria-pressed": String(isMade(finding, choice)), onclick: () => choose(choice) }, text);
    const other = made?.action === "relabel" && made.value !== suggestion.value ? made.value : null;
    const labels = isAboutLabel(finding) && LABELS.length ? make("select", {
      "aria-label": `Another label for row ${finding.row}`, onchange: (event) => choose({ action: "relabel", value: LABELS[Number(event.target.value)] }),
    }, make("option", { value: "" }, other === null ? "Another label" : `Label “${other}”`),
    ...LABELS.map((label, index) => make("option", { value: index }, label))) : null;
    const pictures = [thumb(finding.row), finding.other === null ? null : thumb(finding.other)].filter(Boolean);
    const elsewhere = made && made.kind !== finding.kind ? `Decided under ${KINDS[made.kind] || made.kind}: ${SAID[made.action](made.value)}` : null;
    return make("div", { role: "listitem", class: `finding${place === current ? " current" : ""}${made ? " done" : ""}` },
      pictures.length ? make("div", { class: "pair" }, ...pictures) : make("span", { class: "soft small" }, `#${finding.row}`),
      make("div", { class: "said" }, finding.text ? make("div", {}, finding.text) : null, make("div", { class: "small soft" }, finding.message),
        finding.other_text && !pictures.length ? make("div", { class: "small soft" }, `#${finding.other}: ${finding.other_text}`) : null,
        make("div", { class: "small soft" }, `${finding.place} · ${finding.split}`),
        elsewhere ? make("div", { class: "small" }, elsewhere) : null),
      make("div", { class: "choices" }, button(suggestion, SAID[suggestion.action](suggestion.value)), labels,
        finding.kind === "near_duplicate" ? button({ action: "drop" }, SAID.drop()) : null, button({ action: "keep" }, "Keep")));
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, select, textarea")) return;
    const box = list.getBoundingClientRect();
    if (box.bottom < 0 || box.top > innerHeight) return;  // the keys are about what can be seen
    const all = rows();
    const moves = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 };
    if (event.key in moves) {
      current = Math.max(0, Math.min(all.length - 1, current + moves[event.key]));
      shown = Math.max(shown, current + 1);
    } else if (event.key === "a" || event.key === "x") {
      decide(all[current], event.key === "a" ? choiceOf(all[current]) : { action: "keep" });
      current = Math.min(all.length - 1, current + 1);
      shown = Math.max(shown, current + 1);
    } else return;
    event.preventDefault();
    draw(true);
  });
  section("findings", "What to look at first", tabs,
    make("p", { class: "small soft" }, "Keys: ", make("kbd", {}, "↓"), " ", make("kbd", {}, "↑"), " move, ", make("kbd", {}, "a"), " accept, ", make("kbd", {}, "x"), " keep as it is. A row has one decision, whichever list you make it in. Decisions stay in this browser until you save them."),
    make("div", { class: "controls" }, saving, accepting, told), list);
  draw();
};

const labels = () => {
  const found = data.labels;
  if (!found || !found.counts.length) return;
  const splits = Object.keys(data.splits);
  const most = found.counts[0][1], least = found.counts[found.counts.length - 1][1];
  const parts = [make("p", { class: "soft" }, `${count(found.counts.length, "label")}${found.counts.length > 1 ? `; the most frequent has ${(most / Math.max(1, least)).toFixed(1)} times as many rows as the rarest` : ""}.`)];
  if (found.agreement !== null) parts.push(make("p", { class: "soft" }, `Models that did not see a row give its label in ${percent(found.agreement)} of cases.`));
  for (const each of found.shift) {
    if (each.p < 0.01 && each.variation > 0.05) parts.push(make("p", { class: "warn" }, `Labels are shared out otherwise in ${each.split}: ${percent(each.variation)} of its rows would have to change their label (p = ${each.p.toPrecision(2)}).`));
  }
  parts.push(more(found.counts, 30, (items) => bars(items, most, (of) => splits.map((split) => of?.[split] || 0))));
  if (splits.length > 1) parts.push(make("p", { class: "small soft" }, `Shades, from dark to light: ${splits.join(", ")}.`));
  if (found.confusable.length) {
    parts.push(make("h3", { style: "margin-top:18px" }, "Hard to tell apart"), make("div", { class: "scroll" }, make("table", {},
      make("tr", {}, make("th", {}, "label"), make("th", {}, "label"), make("th", { class: "number" }, "rows that look like the other")),
      ...found.confusable.map(([a, b, rows]) => make("tr", {}, make("td", {}, a), make("td", {}, b), make("td", { class: "number" }, rows))))));
  }
  const words = Object.entries(found.words);
  if (words.length) {
    parts.push(make("h3", { style: "margin-top:18px" }, words.length < found.counts.length ? `Words that a label's texts share (the ${words.length} most frequent labels)` : "Words that a label's texts share"), more(words, 24, (items) => make("div", { class: "cards" },
      ...items.map(([label, of]) => make("div", { class: "card" }, make("h3", {}, label), make("p", { class: "small soft" }, of.join(", ")))))));
  }
  section("labels", "Labels", ...parts);
};

const histogram = (numbers) => {
  const width = 260, height = 90, most = Math.max(1, ...numbers.counts), step = width / numbers.counts.length;
  const drawn = svg("svg", { class: "histogram", viewBox: `0 0 ${width} ${height + 16}`, role: "img", "aria-label": "distribution" });
  numbers.counts.forEach((value, place) => {
    const tall = value ? Math.max(1, (height * value) / most) : 0;
    const bar = svg("rect", { x: place * step + 0.5, y: height - tall, width: Math.max(1, step - 1), height: tall, rx: 1.5 });
    bar.addEventListener("mousemove", (event) => showTip(event, `${number(numbers.edges[place])} to ${number(numbers.edges[place + 1])}: ${count(value, "row")}`));
    bar.addEventListener("mouseleave", () => { tip.hidden = true; });
    drawn.append(bar);
  });
  const low = svg("text", { x: 0, y: height + 13 }), high = svg("text", { x: width, y: height + 13, "text-anchor": "end" });
  low.textContent = number(numbers.quartiles[0]);
  high.textContent = number(numbers.quartiles[4]);
  drawn.append(low, high);
  return drawn;
};
const columns = () => section("columns", "Columns", make("div", { class: "cards" }, ...data.columns.map((column) => make("div", { class: "card" },
  make("h3", {}, column.name), make("p", { class: "small soft" }, `${column.kind}${column.missing ? `, ${count(column.missing, "missing value")} (${percent(column.missing / data.rows)})` : ""}`),
  column.numbers ? make("div", {}, histogram(column.numbers), make("p", { class: "small soft" },
    `median ${number(column.numbers.quartiles[2])}, mean ${number(column.numbers.mean)}, half between ${number(column.numbers.quartiles[1])} and ${number(column.numbers.quartiles[3])}${column.numbers.outliers ? `, ${count(column.numbers.outliers, "outlier")}` : ""}`))
    : column.categories ? make("div", {}, make("p", { class: "small soft" }, count(column.categories.distinct, "different value")), bars(column.categories.counts.slice(0, 6)))
      : make("p", { class: "small soft" }, column.distinct === undefined ? "" : count(column.distinct, "different value"))))));

// Spearman's coefficient of each two columns of numbers; -1 is in one colour, 1 in the other, and 0 in none
const correlations = (found) => {
  const pairs = found.filter((each) => each.measure === "Spearman");
  const names = [...new Set(data.columns.map((column) => column.name))].filter((name) => pairs.some((each) => each.one === name || each.other === name));
  if (names.length < 3) return null;
  const told = names.slice(0, 14), of = new Map(pairs.flatMap((each) => [[`${each.one}\n${each.other}`, each], [`${each.other}\n${each.one}`, each]]));
  const cell = (one, other) => {
    const each = of.get(`${one}\n${other}`);
    if (!each) return make("td", { class: "number soft" }, one === other ? "" : "–");
    const shade = `color-mix(in srgb, var(--${each.value < 0 ? "minus" : "accent"}) ${Math.round(80 * Math.abs(each.value))}%, transparent)`;
    return make("td", { class: "number", style: `background:${shade}`, title: `${one} and ${other}: ${each.value.toFixed(2)}, ${count(each.n, "row")}` }, each.value.toFixed(2).replace("-0.00", "0.00"));
  };
  return make("div", { class: "correlations", style: "margin-bottom:22px" }, make("h3", {}, "Do they rise together?"),
    make("p", { class: "soft" }, `Spearman's coefficient of each two columns of numbers: 1 where one rises whenever the other does, -1 where it falls, 0 where neither says anything of the other.${names.length > told.length ? ` The first ${told.length} of ${names.length} columns; all are in the table below.` : ""}`),
    make("div", { class: "scroll" }, make("table", {}, make("tr", {}, make("th", {}), ...told.map((_, place) => make("th", { class: "number" }, place + 1))),
      ...told.map((one, place) => make("tr", {}, make("th", {}, `${place + 1} ${one}`), ...told.map((other) => cell(one, other)))))));
};
const dependences = () => {
  const found = data.dependences.filter((each) => each.n > 0);
  if (!found.length) return;
  section("dependences", "What depends on what", correlations(found),
    make("p", { class: "soft" }, "p is the chance of so strong a dependence between columns that have none, corrected for the number of pairs tried; where many combinations of values have few rows, it is estimated by shuffling at most 1,000 of the rows. A dependence is no cause."),
    more(found, 15, (items) => make("div", { class: "scroll" }, make("table", { class: "stacked" },
      make("tr", {}, ...["column", "column", "measure", "", "value", "rows", "p"].map((name, place) => make("th", { class: place > 3 ? "number" : place === 3 ? "drawn" : null }, name))),
      ...items.map((each) => {
        const strength = make("span", { class: "bar", style: "width:90px" }, make("i"));
        strength.firstChild.style.cssText = `width:${100 * Math.abs(each.value)}%;${each.value < 0 ? "background:var(--minus)" : ""}`;
        return make("tr", {}, make("td", {}, each.one), make("td", {}, each.other), make("td", {}, each.measure),
          make("td", { class: "drawn" }, strength), make("td", { class: "number" }, each.value.toFixed(2)), make("td", { class: "number" }, each.n.toLocaleString("en")),
          make("td", { class: "number" }, each.p < 1e-12 ? "< 1e-12" : each.p.toPrecision(2)));
      })))));
};

const photos = () => {
  if (!data.photos) return;
  section("photos", "Photos", make("p", { class: "soft" }, data.photos.formats.map(([name, rows]) => `${rows.toLocaleString("en")} ${name}`).join(", ")),
    more(data.photos.sheets, 12, (items) => make("div", { class: "cards", style: "grid-template-columns:repeat(auto-fill,minmax(300px,1fr))" },
      ...items.map(([label, rows]) => make("div", { class: "card" }, make("h3", {}, label), make("div", { class: "sheet" },
        data.photos.averages[label] ? make("img", { src: `data:image/jpeg;base64,${data.photos.averages[label]}`, alt: `average of ${label}`, title: "the average of all", style: "outline:2px solid var(--accent);outline-offset:-2px" }) : null,
        ...rows.map((row) => thumb(row))))))));
};
const texts = () => {
  if (!data.texts) return;
  const words = data.texts.frequent;
  section("texts", "Words", make("p", { class: "soft" }, `${count(data.texts.vocabulary, "different word")}, ${percent(data.texts.once / Math.max(1, data.texts.vocabulary))} of them in one row alone.`),
    more(words, 15, (items) => bars(items)));
};

const map = () => {
  if (!data.map || !data.map.length) return;
  const absent = data.rows - data.seen;
  const place = data.roles.label ? data.table.columns.indexOf(data.roles.label) : -1;
  const labelOf = (row) => (place < 0 ? null : byRow.get(row)?.[place] ?? "no label");
  const counts = new Map();
  data.map.forEach(([, , row]) => counts.set(labelOf(row), (counts.get(labelOf(row)) || 0) + 1));
  const names = [...counts].sort((a, b) => b[1] - a[1]).map(([name]) => name);
  const canvas = make("canvas", { width: 1100, height: 720, role: "img", "aria-label": "map of the rows by likeness" }), pen = canvas.getContext("2d");
  let only = null;
  const draw = () => {
    pen.clearRect(0, 0, 1100, 720);
    for (const [x, y, row] of data.map) {
      const name = labelOf(row);
      pen.globalAlpha = only === null || only === name ? 0.85 : 0.07;
      pen.fillStyle = colour(names.indexOf(name), names.length);
      pen.beginPath();
      pen.arc(16 + x * 1068, 16 + y * 688, only === name ? 6 : 4.5, 0, 7);
      pen.fill();
    }
  };
  canvas.addEventListener("mousemove", (event) => {
    const box = canvas.getBoundingClientRect();
    const [px, py] = [((event.clientX - box.left) / box.width) * 1100, ((event.clientY - box.top) / box.height) * 720];
    let best = null, distance = 14 ** 2;
    for (const point of data.map) {
      const away = (16 + point[0] * 1068 - px) ** 2 + (16 + point[1] * 688 - py) ** 2;
      if (away < distance) [best, distance] = [point, away];
    }
    if (best) showTip(event, thumb(best[2], 96), ...describe(best[2])); else tip.hidden = true;
  });
  canvas.addEventListener("mouseleave", () => { tip.hidden = true; });
  const legend = make("div", { class: "controls" }, make("select", {
    "aria-label": "Show one label", onchange: (event) => { only = event.target.value === "" ? null : names[Number(event.target.value)]; draw(); },
  }, make("option", { value: "" }, "All labels"), ...names.map((name, index) => make("option", { value: index }, `${name} (${counts.get(name)})`))));
  const keys = make("div", { class: "legend" }, ...names.slice(0, 14).map((name, index) => { const dot = make("i"); dot.style.background = colour(index); return make("span", {}, dot, String(name)); }));
  section("map", "Map", make("p", { class: "soft" }, `Rows that are alike to the model are near to each other (t-SNE${data.map.length < data.seen ? ` of ${count(data.map.length, "row")} drawn at random from ${data.seen.toLocaleString("en")}` : ""}). Distances between groups mean nothing.${absent ? ` ${count(absent, "row")} without a ${data.photos ? "photo that can be read" : "text"} ${absent === 1 ? "is" : "are"} not on it.` : ""}`), place < 0 ? null : legend, canvas, place < 0 ? null : keys);
  draw();
};

const rows = () => {
  const names = data.table.columns, body = make("div", { class: "scroll" }), told = make("p", { class: "small soft" });
  const search = make("input", { type: "search", placeholder: "Words in any column", "aria-label": "Filter rows" });
  const group = make("select", { "aria-label": "Group by" }, make("option", { value: "" }, "Do not group"), ...names.map((name, place) => make("option", { value: place }, `Group by ${name}`)));
  let shown = 25;
  const draw = () => {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = data.table.rows.filter((row) => { const line = row.join("\u0001").toLowerCase(); return wanted.every((word) => line.includes(word)); });
    told.textContent = `${count(found.length, "row")}${data.table.is_sample ? ` of ${count(data.table.rows.length, "row")} drawn at random from ${data.rows.toLocaleString("en")}` : ""}`;
    if (group.value !== "") {
      const counts = new Map(), at = Number(group.value) + 1;
      found.forEach((row) => counts.set(String(row[at] ?? "—"), (counts.get(String(row[at] ?? "—")) || 0) + 1));
      body.replaceChildren(more([...counts].sort((a, b) => b[1] - a[1]), 40, (items) => bars(items)));
      return;
    }
    body.replaceChildren(make("table", {}, make("tr", {}, make("th", {}, "#"), ...names.map((name) => make("th", {}, name))),
      ...found.slice(0, shown).map((row) => make("tr", {}, make("td", { class: "soft" }, row[0], data.photos ? thumb(row[0], 48) : null), ...row.slice(1).map((cell) => make("td", {}, cell === null ? "—" : String(cell)))))));
    if (found.length > shown) body.append(make("div", { class: "controls" }, make("button", { onclick: () => { shown += 75; draw(); } }, "Show more")));
  };
  search.addEventListener("input", () => { shown = 25; draw(); });
  group.addEventListener("change", draw);
  section("rows", "Rows", make("div", { class: "controls" }, search, group), told, body);
  draw();
};

for (const note of data.notes) page.append(make("p", { class: "warn" }, note));
findings(); labels(); photos(); columns(); texts(); dependences(); map(); rows();
