// What the page does without the server. Gradio runs this once. All listeners stand on the document, because Gradio draws
// the parts below it anew.
const base = location.origin + location.pathname.replace(/\/ui\/?$/, "");
const putAddress = () => document.querySelectorAll(".p-origin").forEach((place) => { place.textContent = base; });
new MutationObserver((_, observer) => {  // the call stands in a part that Gradio draws when it is opened
  if (document.querySelector(".p-origin")) { observer.disconnect(); putAddress(); }
}).observe(document.body, { childList: true, subtree: true });

// A photo that is pasted or dropped anywhere goes where a chosen one goes.
const take = (files) => {
  const file = [...(files ?? [])].find((item) => item.type.startsWith("image/"));
  const input = document.querySelector("#photo input[type=file]");
  if (!file || !input) return;
  const transfer = new DataTransfer();
  transfer.items.add(file);
  input.files = transfer.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
};
document.addEventListener("paste", (event) => take(event.clipboardData?.files));
document.addEventListener("dragover", (event) => {
  if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
});
document.addEventListener("drop", (event) => {
  if (event.defaultPrevented || !event.dataTransfer?.types.includes("Files")) return;  // Gradio's own field took it
  event.preventDefault();
  take(event.dataTransfer.files);
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
