// The language page in the browser. Gradio runs this once, with `element`, `server` and `upload`. The conversation stands
// in the page alone; the visitor's name stands in the browser's storage, so that documents are found again after a reload.
const WAIT_MS = 60000;
const find = (name) => element.querySelector(name);
const [log, form, field, hint, said] = [".l-log", ".l-ask", "#l-message", ".l-hint", ".l-said"].map(find);
const send = form.querySelector("button");
const most = Number(find(".l-chat").dataset.most);
let previous = null;  // what was said before, which a question may follow from
const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;

const newName = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const visitor = (() => {
  try {
    const kept = localStorage.getItem("percept-visitor");
    const name = /^[0-9a-f]{32}$/.test(kept ?? "") ? kept : newName();
    localStorage.setItem("percept-visitor", name);
    return name;
  } catch {  // storage is switched off: the name lasts as long as the page
    return newName();
  }
})();

// Resolves to what the server says, or to undefined where it cannot be reached or fails.
const ask = (name, sent) => Promise.race([
  server[name]({ visitor, ...sent }).catch(() => undefined),
  new Promise((resolve) => { setTimeout(resolve, WAIT_MS); }),
]);
const notice = (title, message) => {
  const box = document.createElement("div");
  box.className = "l-notice";
  box.append(Object.assign(document.createElement("strong"), { textContent: title }), ` ${message}`);
  return box;
};

// Chat -----------------------------------------------------------------------------------------------------------------
const growField = () => {
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight + 2, 160)}px`;
};
const scrollTo = (turn) => {
  const top = turn.offsetTop - log.offsetTop - 8;
  log.scrollTo({ top, behavior: isCalm ? "auto" : "smooth" });
};
const addTurn = (text) => {
  const turn = document.createElement("div");
  turn.className = "l-turn";
  const bubble = Object.assign(document.createElement("p"), { className: "l-mine", textContent: text, translate: false });
  const answer = Object.assign(document.createElement("div"), { className: "l-theirs" });
  answer.innerHTML = '<div class="l-pending" aria-hidden="true"><i></i><i></i><i></i></div>';
  turn.append(bubble, answer);
  log.append(turn);
  find(".l-chat").scrollIntoView({ block: "nearest", behavior: isCalm ? "auto" : "smooth" });
  scrollTo(turn);
  return [turn, answer];
};

let isBusy = false;
const say = async (message) => {
  if (isBusy) return;
  const text = message.trim();
  if (!text) { hint.textContent = "Write a message first."; return; }
  if (text.length > most) {
    hint.textContent = `This message has ${text.length.toLocaleString("en")} characters; ${most.toLocaleString("en")} is the limit.`;
    return;
  }
  isBusy = true;
  send.disabled = true;
  hint.textContent = "";
  said.textContent = "I am thinking …";
  log.classList.add("l-started");
  find(".l-samples")?.classList.add("l-row");
  if (message === field.value) { field.value = ""; growField(); }
  const [turn, answer] = addTurn(text);
  log.setAttribute("aria-busy", "true");
  const reply = await ask("reply", { text, previous });
  previous = text;
  log.removeAttribute("aria-busy");
  if (reply) {
    answer.innerHTML = reply.html;  // made by this server, all that people wrote is escaped in it
    said.textContent = reply.said;
  } else {
    answer.replaceChildren(notice("I cannot be reached right now.", "Please send it again in a moment."));
    said.textContent = answer.textContent;
    if (!field.value) { field.value = text; growField(); }
  }
  if (answer.querySelector(".l-notice")) turn.classList.add("l-failed");
  scrollTo(turn);
  isBusy = false;
  send.disabled = false;
};
form.addEventListener("submit", (event) => { event.preventDefault(); say(field.value); field.focus(); });
field.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  say(field.value);
});
field.addEventListener("input", () => { hint.textContent = ""; growField(); });
element.addEventListener("click", (event) => {
  const sample = event.target.closest(".l-sample");
  if (sample) say(sample.textContent);
});

// What people say of an answer, where answers are recorded.
const judge = async (box, opinion) => {
  box.querySelectorAll("button, select").forEach((each) => { each.disabled = true; });
  const told = await ask("judge", { request: box.dataset.request, item: Number(box.dataset.item), ...opinion });
  box.replaceChildren(told?.said ?? "I cannot be reached right now.");
  said.textContent = box.textContent;
};
log.addEventListener("click", (event) => {
  const button = event.target.closest(".p-judge button");
  if (button) judge(button.closest(".p-judge"), { up: button.dataset.up === "1" });
});
log.addEventListener("change", (event) => {
  const list = event.target.closest(".p-judge select");
  if (list?.value) judge(list.closest(".p-judge"), { label: list.value });
});

// Documents ------------------------------------------------------------------------------------------------------------
const panel = find(".l-documents");
if (panel) {
  const [list, status, drop, paste] = [".l-list", ".l-status", ".l-drop", ".l-paste"].map(find);
  const input = drop.querySelector("input");
  const limit = Number(panel.dataset.most);
  const show = (told) => {
    if (!told) { status.append(notice("I cannot be reached right now.", "Please try again in a moment.")); return; }
    list.innerHTML = told.html;
    if (told.notice) status.insertAdjacentHTML("beforeend", told.notice);
    else if (told.said) status.append(Object.assign(document.createElement("p"), { textContent: told.said }));
  };
  const addFiles = async (files) => {
    if (panel.classList.contains("l-reading")) return;
    status.replaceChildren();
    panel.classList.add("l-reading");
    for (const file of files) {
      if (file.size > limit) {
        status.append(notice(`${file.name}:`, `It has ${(file.size / 1e6).toFixed(1)} MB; the limit is ${limit >> 20} MB.`));
        continue;
      }
      if (!file.size) { status.append(notice(`${file.name}:`, "It is empty.")); continue; }
      const place = await upload(file).catch(() => undefined);
      show(place && await ask("add_file", { path: place.path, name: file.name }));
    }
    panel.classList.remove("l-reading");
  };
  input.addEventListener("change", async () => { await addFiles([...input.files]); input.value = ""; });
  const isShown = () => element.offsetParent;  // another tab may be open
  document.addEventListener("dragover", (event) => {
    if (!isShown() || !event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    drop.classList.add("l-over");
  });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("l-over"); });
  document.addEventListener("drop", (event) => {
    if (!isShown() || !event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    drop.classList.remove("l-over");
    addFiles([...event.dataTransfer.files]);
  });
  paste.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const area = paste.querySelector("textarea");
    if (panel.classList.contains("l-reading")) return;
    status.replaceChildren();
    if (!area.value.trim()) { status.append(notice("There is nothing to add.", "Paste a text first.")); area.focus(); return; }
    panel.classList.add("l-reading");
    const told = await ask("add_text", { text: area.value });
    panel.classList.remove("l-reading");
    show(told);
    if (told && !told.notice) { area.value = ""; paste.open = false; }
  });
  list.addEventListener("click", async (event) => {
    const button = event.target.closest(".l-remove");
    if (!button) return;
    button.disabled = true;
    status.replaceChildren();
    const told = await ask("forget", { document: button.dataset.document });
    if (!told) button.disabled = false;
    show(told);
    input.focus();
  });
}

// Another model may have taken the place of the one that this page was drawn for.
ask("greet", {}).then((told) => {
  if (!told) return;
  find(".l-does").textContent = told.does;
  find(".l-samples").innerHTML = told.samples;
  if (panel && told.html) find(".l-list").innerHTML = told.html;
});
