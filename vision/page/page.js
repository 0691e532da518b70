// What the tagger's page does without the server. Gradio runs this once. All listeners stand on the document, because
// Gradio draws the parts below it anew.
// A photo that is pasted or dropped anywhere goes where a chosen one goes.
const isShown = () => document.querySelector("#photo")?.offsetParent;  // another tab may be open
const take = (files) => {
  const file = [...(files ?? [])].find((item) => item.type.startsWith("image/"));
  const input = document.querySelector("#photo input[type=file]");
  if (!file || !input || !isShown()) return;
  const transfer = new DataTransfer();
  transfer.items.add(file);
  input.files = transfer.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
};
document.addEventListener("click", async (event) => {
  const button = event.target.closest("#samples button[data-sample]");
  if (!button) return;
  const name = button.dataset.sample;
  const answer = await fetch(`${location.pathname.replace(/\/$/, "")}/samples/${name}`).catch(() => undefined);
  if (answer?.ok) take([new File([await answer.blob()], name, { type: "image/jpeg" })]);
});
document.addEventListener("paste", (event) => take(event.clipboardData?.files));
document.addEventListener("dragover", (event) => {
  if (event.dataTransfer?.types.includes("Files") && isShown()) event.preventDefault();
});
document.addEventListener("drop", (event) => {
  if (event.defaultPrevented || !event.dataTransfer?.types.includes("Files") || !isShown()) return;  // Gradio's own field took it
  event.preventDefault();
  take(event.dataTransfer.files);
});

