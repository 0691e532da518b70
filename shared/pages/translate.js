// Says in French what the page says in English. It runs once, with the dictionary FRENCH (English -> French) before it; in a
// key, {} is anything, which {} in its value repeats, or {2} for the second. Everything is drawn in English, by the server,
// by Gradio or by scripts, and translated as it appears: what has no translation stays English. What people wrote, and
// names of labels and documents, are marked as translate="no" and stay as they are. An element with data-languages="en fr"
// shows the names of these languages.
const ATTRIBUTES = ["placeholder", "aria-label", "title", "alt"];
const KEPT = "[translate=no], script, style, code, textarea";
const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
const patterns = Object.entries(FRENCH).filter(([key]) => key.includes("{}")).map(([key, value]) =>
  [new RegExp(`^${key.split("{}").map(escaped).join("(.+?)")}$`, "s"), value]);
const exact = new Map(Object.entries(FRENCH));

// Returns a sentence in French, or several of which each has a translation; undefined if there is none.
const found = (said) => {
  if (exact.has(said)) return exact.get(said);
  const sentences = said.split(/(?<=[.!?]) /);
  if (sentences.length > 1) {
    const each = sentences.map(found);
    if (each.every((sentence) => sentence !== undefined)) return each.join(" ");
  }
  for (const [pattern, value] of patterns) {
    const parts = pattern.exec(said);
    let place = 0;
    if (parts) return value.replace(/\{(\d?)\}/g, (_, number) => parts[number ? Number(number) : (place += 1)]);
  }
  return undefined;
};
const inFrench = (text) => {
  const said = found(text.trim().replace(/\s+/g, " "));
  return said === undefined ? text : text.match(/^\s*/)[0] + said + text.match(/\s*$/)[0];
};

const english = new WeakMap();  // a text or an element -> name of what was translated -> [English, French]
let isFrench = false;
const turn = (owner, name, read, write) => {
  const before = english.get(owner)?.[name];
  const now = read();
  const source = before && now === before[1] ? before[0] : now;  // a script may have written something else since
  const wanted = isFrench ? inFrench(source) : source;
  if (wanted !== source) english.set(owner, { ...english.get(owner), [name]: [source, wanted] });
  if (wanted !== now) write(wanted);
};
const turnText = (node) => {
  if (!node.parentElement?.closest(KEPT)) turn(node, "text", () => node.data, (text) => { node.data = text; });
};
const nameOf = (names, tag) => {
  try {
    return names.of(tag);
  } catch {  // a model card may say anything, such as en_US
    return tag;
  }
};
const turnElement = (element) => {
  if (element.dataset.languages) {
    const names = new Intl.DisplayNames(isFrench ? "fr" : "en", { type: "language" });
    const shown = element.dataset.languages.split(" ").map((tag) => nameOf(names, tag)).join(", ");
    if (element.textContent !== shown) element.textContent = shown;
  }
  if (element.closest("[translate=no]")) return;
  for (const name of ATTRIBUTES) {
    if (element.hasAttribute(name)) {
      turn(element, name, () => element.getAttribute(name), (text) => element.setAttribute(name, text));
    }
  }
};
const turnAll = (root) => {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT);
  for (let node = root; node; node = walker.nextNode()) {
    if (node.nodeType === Node.TEXT_NODE) turnText(node);
    else if (node.nodeType === Node.ELEMENT_NODE) turnElement(node);
  }
};

const NAME = "percept-language";
const chosen = () => {
  try {
    return localStorage.getItem(NAME);
  } catch {  // storage is switched off
    return null;
  }
};
const speak = (language) => {
  isFrench = language === "fr";
  document.documentElement.lang = isFrench ? "fr" : "en";
  turnAll(document.documentElement);
  document.querySelectorAll(".p-language").forEach((button) => { button.lang = isFrench ? "en" : "fr"; });
};
document.addEventListener("click", (event) => {
  if (!event.target.closest(".p-language")) return;
  const language = isFrench ? "en" : "fr";
  try {
    localStorage.setItem(NAME, language);
  } catch {  // it lasts as long as the page
  }
  speak(language);
});
new MutationObserver((changes) => {
  for (const change of changes) {
    if (change.type === "characterData") turnText(change.target);
    else if (change.type === "attributes") turnElement(change.target);
    else change.addedNodes.forEach(turnAll);
  }
}).observe(document.documentElement, {
  childList: true, subtree: true, characterData: true, attributes: true, attributeFilter: ATTRIBUTES,
});
speak(chosen() ?? (/^fr\b/i.test(navigator.language) ? "fr" : "en"));
