// The review page. Every text of customers and reviewers goes in as text, never as HTML. The key stays in this closure.
"use strict";
(() => {
  const BATCH = 100, REFILL = 8, MOST_CHOICES = 9, MOST_FOUND = 40;
  const REASONS = { disagreed: "Called wrong", group: "New groups", shadow: "Candidate differs", uncertain: "Not sure", audit: "Random", reviewers: "Reviewers disagree" };
  const at = (id) => document.getElementById(id);
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
    return element;
  };
  const key = (name) => make("kbd", { "aria-hidden": "true" }, name);
  const percent = (score) => score === null || score === undefined ? "" : score >= 0.995 ? ">99 %" : score < 0.01 ? "<1 %" : `${Math.round(100 * score)} %`;
  const count = (value, one, many = `${one}s`) => `${value.toLocaleString("en")} ${value === 1 ? one : many}`;

  let secret = "", view = null, items = [], reason = null, chosen = [], past = [], doneHere = 0, waiting = 0, isDry = false, recent = [];
  const seen = new Set();  // records in hand or decided here
  const oneByOne = new Set();  // groups that are not shown as a list

  // The service

  class Problem extends Error {
    constructor(message, status) { super(message); this.status = status; }
  }
  const call = async (path, options = {}) => {
    let answer;
    try {
      // Headers are bytes; a key may have letters beyond them, which go as UTF-8.
      const bytes = String.fromCharCode(...new TextEncoder().encode(secret));
      answer = await fetch(`..${path}`, { ...options, cache: "no-store", headers: { authorization: `Bearer ${bytes}`, ...options.headers } });
    } catch {
      throw new Problem("The service cannot be reached. Is it running, and are you online?", 0);
    }
    if (answer.ok) return answer;
    let message = "";
    try { message = (await answer.json()).error.message; } catch { /* a proxy's page, say */ }
    if (answer.status === 401) throw new Problem(`This key does not open the page. ${message}`, 401);
    throw new Problem(message ? message[0].toUpperCase() + message.slice(1) : `The service answered ${answer.status}.`, answer.status);
  };
  const json = async (path, options) => (await call(path, options)).json();
  const tell = (problem, again) => {
    const box = at("problem");
    box.replaceChildren(problem.message || String(problem));
    if (again) box.append(make("button", { type: "button", onclick: () => { hush(); again(); } }, "Try again"));
    box.hidden = false;
    if (problem.status === 401) ask();
  };
  const hush = () => { at("problem").hidden = true; };
  const say = (text) => { at("said").textContent = text; };
  const ask = () => { at("work").hidden = true; at("enter").hidden = false; at("key").value = ""; at("key").focus(); };

  const load = async (isFresh) => {
    const query = new URLSearchParams({ limit: String(BATCH) });
    if (view && at("model").value) query.set("model", at("model").value);
    if (reason) query.set("reason", reason);
    if (isFresh) { items = []; seen.clear(); isDry = false; }
    const found = await json(`/v1/review?${query}`);
    view = found;
    for (const item of found.items) if (!seen.has(item.record)) { seen.add(item.record); items.push(item); }
    doneHere = 0;
  };
  const open = async (isFresh) => {
    try {
      await load(isFresh);
      hush();
      at("enter").hidden = true;
      at("work").hidden = false;
      draw();
    } catch (problem) { tell(problem, problem.status === 401 ? null : () => open(isFresh)); }
  };
  let isFilling = false;
  const refill = async () => {
    if (isFilling || isDry || items.length >= REFILL || waiting) return;
    isFilling = true;
    const before = items.length;
    try { await load(false); } catch (problem) { tell(problem, refill); return; } finally { isFilling = false; }
    isDry = items.length === before;
    if (!before) draw(); else drawTop();
  };

  // Deciding

  const keep = async (those, values, words, ofGroup) => {
    if (ofGroup) oneByOne.add(ofGroup);
    const sent = those.map((item) => ({ record: item.record, reason: item.reason, comment: comment(), ...values }));
    const model = view.model;
    items = items.filter((item) => !those.includes(item));
    past.push(those);
    doneHere += those.length;
    waiting += 1;
    draw();
    say(`Saving: ${words}`);
    let hasFailed = false;
    try {
      const answer = await json("/v1/review", { method: "PUT", headers: { "content-type": "application/json" }, body: JSON.stringify({ model, reviews: sent }) });
      const fresh = answer.new_labels.filter((label) => !known().includes(label));
      for (const label of values.labels || []) if (!known().includes(label)) view.reviewed_labels.push(label);
      recent = [...new Set([...(values.labels || []), ...recent])].slice(0, 4);
      say(`Saved: ${words}.${fresh.length ? ` ${fresh.join(", ")} is a new label: is it spelled right?` : ""}`);
    } catch (problem) {
      hasFailed = true;
      past = past.filter((each) => each !== those);
      doneHere -= those.length;
      items = [...those, ...items];
      oneByOne.delete(ofGroup);
      say("");
      tell(new Problem(`Your last decision was not kept. ${problem.message}`, problem.status));
      draw();
    } finally { waiting -= 1; }
    if (!hasFailed) { hush(); refill(); }
  };
  const comment = () => (document.getElementById("comment") || {}).value || "";
  const current = () => items[0];
  const known = () => [...new Set([...view.labels, ...view.reviewed_labels])];
  const isQa = () => view.task === "qa";
  const words = () => at("answer") ? at("answer").value : current().answer || "";
  const confirm = () => {
    if (!current()) return;
    if (isQa()) keep([current()], { labels: null, answer: words() }, words() || "no answer");
    else keep([current()], { labels: chosen, answer: null }, chosen.join(", ") || "nothing fits");
  };
  const nothing = () => current() && keep([current()], isQa() ? { labels: null, answer: "" } : { labels: [], answer: null }, isQa() ? "no answer" : "nothing fits");
  const aside = () => current() && keep([current()], { labels: null, answer: null }, "set aside");
  const choose = (label) => {
    if (view.task === "tagging") {
      chosen = chosen.includes(label) ? chosen.filter((each) => each !== label) : [...chosen, label];
      drawChoices();
    } else { chosen = [label]; confirm(); }
  };
  const undo = async () => {
    if (waiting) return;
    const those = past.pop();
    if (!those) { say("There is nothing to undo."); return; }
    waiting += 1;
    try {
      for (const item of those) await call(`/v1/review/${item.record}`, { method: "DELETE" });
      items = [...those, ...items];
      doneHere -= those.length;
      draw();
      say("Taken back.");
    } catch (problem) { past.push(those); tell(problem, undo); } finally { waiting -= 1; }
  };

  // Drawing

  const drawTop = () => {
    const all = reason ? view.counts[reason] : view.left;
    const done = view.done_today + doneHere, rest = Math.max(items.length, all - doneHere, 0);
    at("progress-text").textContent = `${done.toLocaleString("en")} done today, ${rest.toLocaleString("en")} left`;
    at("progress").value = done + rest ? done / (done + rest) : 1;
    at("model").replaceChildren(...view.models.map((model) => make("option", { value: model.name, selected: model.name === view.model, translate: model.is_served && "no" }, `${model.name}${model.is_served ? "" : " (not served)"}`)));
    const chip = (name, text) => make("button", { type: "button", "aria-pressed": String(reason === name), onclick: () => { reason = name; say(""); open(true); } }, text);
    at("reasons").replaceChildren(chip(null, "All"), ...Object.entries(REASONS).filter(([name]) => view.counts[name] || name === reason).map(([name, text]) => chip(name, `${text} ${view.counts[name].toLocaleString("en")}`)));
    const audit = view.audit;
    at("audit").textContent = audit.count ? `Of ${count(audit.count, "answer")} drawn at random, ${percent(audit.right)} ${audit.count === 1 ? "is" : "are"} right (95 % interval ${percent(audit.low)} to ${percent(audit.high)}).` : "";
  };
  const why = (item) => {
    const said = item.said;
    const what = said && (said.labels ? said.labels.join(", ") || "nothing that is known" : said.answer === "" ? "there is no answer" : said.answer);
    return {
      disagreed: `A customer said this is wrong${what ? `: ${what}` : ""}`,
      group: `One of a new group: ${item.group}`,
      shadow: `The candidate ${said ? said.by : ""} answers otherwise${what ? `: ${what}` : ""}`,
      uncertain: "The model was not sure",
      audit: "Drawn at random, to measure how good the answers are",
      reviewers: "Reviewers disagree",
    }[item.reason];
  };
  const suggestions = (item) => [...new Set([
    ...item.labels, ...(item.said && item.said.labels || []), ...item.feedback.flatMap((each) => each.labels || []),
    ...item.reviews.flatMap((each) => each.labels || []), ...recent,
  ])].slice(0, MOST_CHOICES);
  const photo = (item, alt) => {
    const image = make("img", { class: "photo", alt });
    call(item.photo).then((answer) => answer.blob()).then((blob) => {
      image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
      image.src = URL.createObjectURL(blob);
    }).catch((problem) => { image.replaceWith(make("p", { class: "warn" }, `The photo cannot be shown. ${problem.message}`)); if (problem.status === 401) tell(problem); });
    return image;
  };
  const passage = (item) => {
    const start = item.answer ? item.context.indexOf(item.answer) : -1;
    const parts = start < 0 ? [item.context] : [item.context.slice(0, start), make("mark", {}, item.answer), item.context.slice(start + item.answer.length)];
    const take = () => {
      const picked = String(document.getSelection()).trim();
      if (picked && at("answer")) at("answer").value = picked;
    };
    return make("div", { class: "passage", translate: "no", tabindex: "0", role: "region", "aria-label": "Passage", onmouseup: take, ontouchend: take }, ...parts);
  };
  const opinion = (each) => each.labels === null && each.answer === null ? "set it aside" : each.labels !== null ? each.labels.join(", ") || "nothing that is known fits" : each.answer || "there is no answer";
  const people = (item) => {
    const lines = item.feedback.filter((each) => each.comment || each.labels || each.right !== null || each.answer !== null).map((each) =>
      `Customer: ${each.right === true ? "right" : each.right === false ? "wrong" : opinion(each)}${each.comment ? ` “${each.comment}”` : ""}`);
    for (const each of item.reviews) lines.push(`${each.is_mine ? "You" : each.reviewer}: ${opinion(each)}${each.comment ? ` “${each.comment}”` : ""}`);
    return lines.length ? make("ul", { class: "people", "aria-label": "What others say" }, ...lines.map((line) => make("li", {}, line))) : null;
  };
  const answered = (item) => {
    const none = { out_of_scope: "out of scope", untagged: "no tag", unanswerable: "no answer" }[item.outcome];
    const given = item.labels.length ? item.labels.map((label, place) => `${label} ${percent(item.scores[place])}`).join(", ") : none || item.answer || "an answer whose words were not kept";
    const rest = [];
    if (none && item.confidence !== null) rest.push(`best ${percent(item.confidence)}`);
    if (item.task === "qa" && !none && item.confidence !== null) rest.push(percent(item.confidence));
    if (item.out_of_scope_score !== null) rest.push(`out of scope ${percent(item.out_of_scope_score)}`);
    if (item.stands_for > 1) rest.push(`asked ${item.stands_for.toLocaleString("en")} times`);
    return make("p", { class: "answer" }, make("span", { class: "soft" }, "The model says"), make("b", { translate: !none && "no" }, given), make("span", { class: "soft small" }, rest.join(" · ")));
  };
  const drawChoices = () => {
    const item = current();
    const labels = [...new Set([...suggestions(item), ...chosen])];
    at("choices").replaceChildren(...labels.map((label, place) => make("button", { type: "button", "aria-pressed": String(chosen.includes(label)), translate: "no", onclick: () => choose(label) }, place < MOST_CHOICES ? key(place + 1) : null, label)));
  };
  const filter = () => {
    const typed = at("filter").value.trim().toLowerCase();
    const fitting = known().filter((label) => label.toLowerCase().includes(typed));
    fitting.sort((one, other) => other.toLowerCase().startsWith(typed) - one.toLowerCase().startsWith(typed));
    at("found").replaceChildren(...(typed ? fitting.slice(0, MOST_FOUND) : []).map((label) => make("button", { type: "button", translate: "no", onclick: () => pick(label) }, label)));
    at("add").hidden = !typed || known().includes(at("filter").value.trim());
    at("add").textContent = `Add “${at("filter").value.trim()}” as a new label`;
  };
  const pick = (label) => { at("filter").value = ""; filter(); at("filter").blur(); choose(label); };
  const typedKey = (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      const first = at("found").querySelector("button");
      if (first) first.click(); else if (!at("add").hidden) at("add").click(); else confirm();
    } else if (event.key === "Escape") { at("filter").value = ""; filter(); at("filter").blur(); }
    event.stopPropagation();
  };

  const single = (item) => {
    chosen = isQa() ? [] : [...item.labels];
    const box = make("section", { class: "card single", "aria-label": "What is to be reviewed" },
      make("p", { class: "why" }, why(item)),
      item.photo ? photo(item, "The photo that was sent") : null,
      item.text !== null ? make("p", { class: "input", translate: "no" }, item.text) : null,
      item.context ? passage(item) : null,
      answered(item), people(item));
    if (isQa()) {
      const area = make("textarea", { id: "answer", onkeydown: (event) => {
        event.stopPropagation();
        if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); confirm(); } else if (event.key === "Escape") area.blur();
      } });
      area.value = item.answer || "";
      box.append(make("label", { for: "answer" }, "Right answer"), make("p", { class: "soft small" }, "Write it, or select it in the passage. Empty: there is none."), area);
    } else {
      box.append(
        make("div", { id: "choices", class: "choices", role: "group", "aria-label": "Suggestions" }),
        make("div", { class: "row" }, make("input", { id: "filter", type: "search", placeholder: "Another label: type to search, n for a new one", "aria-label": "Search all labels", autocomplete: "off", spellcheck: "false", oninput: filter, onkeydown: typedKey })),
        make("div", { id: "found", class: "found", role: "group", "aria-label": "Labels found" }),
        make("button", { id: "add", type: "button", hidden: true, onclick: () => pick(at("filter").value.trim()) }));
    }
    box.append(
      make("details", {}, make("summary", {}, "Comment"), make("textarea", { id: "comment", maxlength: "2000", "aria-label": "Comment", onkeydown: (event) => event.stopPropagation() })),
      make("div", { class: "actions" },
        make("button", { type: "button", class: "primary", onclick: confirm }, key("↵"), "Confirm"),
        make("button", { type: "button", onclick: nothing }, key("o"), isQa() ? "No answer" : "Nothing fits"),
        make("button", { type: "button", onclick: aside }, key("s"), "Set aside"),
        make("button", { type: "button", onclick: undo }, key("u"), "Undo")));
    at("now").replaceChildren(box);
    if (!isQa()) drawChoices();
  };
  const group = (those) => {
    const name = those[0].group;
    const list = make("ul", { class: "members", "aria-label": "In this group" });
    const boxes = those.map((item) => {
      const box = make("input", { type: "checkbox", onchange: () => refresh() });
      box.checked = true;
      const more = item.stands_for > 1 ? ` (${item.stands_for.toLocaleString("en")} times)` : "";
      list.append(make("li", {}, make("label", {}, box, item.photo ? photo(item, "A photo of the group") : null, make("span", { translate: "no" }, item.text || ""), make("span", {}, more))));
      return box;
    });
    const picked = () => those.filter((_, place) => boxes[place].checked);
    const field = make("input", { id: "group-name", value: name, list: "labels", autocomplete: "off", maxlength: "200", oninput: () => refresh(), onkeydown: (event) => { event.stopPropagation(); if (event.key === "Enter") { event.preventDefault(); give.click(); } } });
    const give = make("button", { type: "button", class: "primary", onclick: () => keep(picked(), { labels: [field.value.trim()], answer: null }, `${field.value.trim()} for ${count(picked().length, "item")}`, name) });
    const none = make("button", { type: "button", onclick: () => keep(picked(), { labels: [], answer: null }, `nothing fits ${count(picked().length, "item")}`, name) }, "Nothing fits");
    const refresh = () => {
      give.textContent = `Give ${picked().length} of ${those.length} this label`;
      give.disabled = !picked().length || !field.value.trim();
      none.disabled = !picked().length;
    };
    refresh();
    at("now").replaceChildren(make("section", { class: "card", "aria-label": "A new group" },
      make("p", { class: "why" }, "A new group"), make("h2", {}, `${name}: ${count(those.length, "item")}`),
      make("p", { class: "soft" }, "Take out what does not belong. What you leave is asked again, one by one."), list,
      make("label", { for: "group-name" }, "Label for those that are ticked"),
      make("div", { class: "row" }, field, make("datalist", { id: "labels" }, ...known().map((label) => make("option", { value: label, translate: "no" })))),
      make("div", { class: "actions" }, give, none,
        make("button", { type: "button", onclick: () => { oneByOne.add(name); draw(); } }, "Look one by one"),
        make("button", { type: "button", onclick: undo }, key("u"), "Undo"))));
  };
  const draw = () => {
    drawTop();
    const item = current();
    if (!item) {
      at("now").replaceChildren(make("section", { class: "card" },
        make("h2", {}, view.note ? "There is nothing to review" : "All done"),
        make("p", {}, view.note || (reason ? "Nothing is left of this kind." : "Nothing is left that is worth a look.")),
        make("div", { class: "actions" }, make("button", { type: "button", class: "primary", onclick: () => open(true) }, "Look again"), past.length ? make("button", { type: "button", onclick: undo }, key("u"), "Undo") : null)));
      refill();
      return;
    }
    const those = item.reason === "group" && !isQa() && !oneByOne.has(item.group) ? items.filter((each) => each.reason === "group" && each.group === item.group) : [];
    if (those.length > 1) group(those); else single(item);
  };

  document.addEventListener("keydown", (event) => {
    const isElsewhere = at("work").hidden || !current() || event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
    if (isElsewhere) return;
    const isButton = /^(BUTTON|SUMMARY|A)$/.test(event.target.tagName);
    const isSingle = at("now").querySelector(".single") !== null;
    const does = { o: nothing, s: aside, n: () => { if (at("filter")) at("filter").focus(); } };
    if (event.key === "u") undo();
    else if (!isSingle || (isButton && (event.key === "Enter" || event.key === " "))) return;
    else if (event.key === "Enter") confirm();
    else if (does[event.key]) does[event.key]();
    else if (/^[1-9]$/.test(event.key) && !isQa()) { const button = at("choices").children[Number(event.key) - 1]; if (!button) return; button.click(); }
    else if (event.key === "/" || (/^\p{L}$/u.test(event.key) && at("filter"))) { (at("filter") || at("answer")).focus(); if (event.key !== "/") return; }
    else return;
    event.preventDefault();
  });
  at("enter").addEventListener("submit", (event) => { event.preventDefault(); secret = at("key").value.trim(); hush(); open(false); });
  at("model").addEventListener("change", () => { reason = null; past = []; say(""); open(true); });
  ask();
})();
