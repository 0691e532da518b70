// What the page does without the server. Gradio runs this once, with `element` the header; all listeners stand on the document,
// because Gradio replaces the HTML below it.
const base = location.origin + location.pathname.replace(/\/ui\/?$/, "").replace(/\/$/, "");
const putAddress = () => document.querySelectorAll(".p-origin").forEach((place) => { place.textContent = base; });
putAddress();
new MutationObserver(putAddress.bind(null)).observe(document.body, { childList: true, subtree: false });

document.addEventListener("toggle", putAddress, true);

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
