// What all demo pages do without the server. Gradio runs this once. All listeners are on the document, because Gradio
// redraws the parts below it.
const base = location.origin + location.pathname.replace(/\/ui\/?$/, "");
const putAddress = () => document.querySelectorAll(".p-origin").forEach((place) => { place.textContent = base; });
new MutationObserver(() => {  // the calls are in parts that Gradio draws when they are opened
  if ([...document.querySelectorAll(".p-origin")].some((place) => place.textContent !== base)) putAddress();
}).observe(document.body, { childList: true, subtree: true });

// Each tab has an address: #language or ?tab=language opens it, and choosing a tab changes the address.
const tabs = () => [...document.querySelectorAll("#pages > .tab-wrapper .tab-container:not(.visually-hidden) [role=tab]")];
const openTab = () => {  // returns whether nothing is left to do
  const wanted = (location.hash.slice(1) || new URLSearchParams(location.search).get("tab") || "").toLowerCase();
  const tab = tabs().find((each) => each.dataset.tabId === wanted);
  if (tab?.getAttribute("aria-selected") === "false") tab.click();
  return tab ? tab.getAttribute("aria-selected") === "true" : tabs().length > 0;
};
const opening = setInterval(() => { if (openTab()) clearInterval(opening); }, 50);  // Gradio may draw the tabs later
setTimeout(() => clearInterval(opening), 30000);
addEventListener("hashchange", openTab);
document.addEventListener("click", (event) => {
  const tab = event.target.closest("#pages > .tab-wrapper [role=tab]");
  if (tab && location.hash !== `#${tab.dataset.tabId}`) history.replaceState(null, "", `#${tab.dataset.tabId}`);
});

document.addEventListener("click", async (event) => {
  const copy = event.target.closest(".p-copy");
  if (copy) {
    putAddress();
    const code = copy.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      copy.textContent = "Copied";
    } catch {  // no permission, or not a secure address: select it, so that one key copies it
      getSelection().selectAllChildren(code);
      copy.textContent = "Selected";
    }
    setTimeout(() => { copy.textContent = "Copy"; }, 2000);
  }
});

document.addEventListener("input", (event) => {
  if (!event.target.matches(".p-search")) return;
  const wanted = event.target.value.trim().toLowerCase();
  const root = event.target.closest(".p-knows");
  let found = 0;
  for (const group of root.querySelectorAll(".p-labels > div")) {
    const heading = group.querySelector("h3");
    const whole = heading && wanted && heading.firstChild.textContent.toLowerCase().includes(wanted);
    let here = 0;
    for (const item of group.querySelectorAll("li")) {
      item.hidden = !(whole || item.textContent.toLowerCase().includes(wanted));
      here += !item.hidden;
    }
    group.hidden = here === 0;
    found += here;
  }
  root.querySelector(".p-found").textContent = wanted ? (found ? `${found} found` : "It does not know that.") : "";
});
