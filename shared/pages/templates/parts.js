// What the pages are drawn with. Every text of the data goes in as text, never as HTML.
const data = JSON.parse(document.getElementById("data").textContent);
const page = document.getElementById("page"), tip = document.getElementById("tip");
const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
};
const svg = (tag, attributes = {}, ...children) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};
const number = (value) => Math.abs(value) >= 1e6 || (value && Math.abs(value) < 1e-3) ? value.toExponential(2)
  : value.toLocaleString("en", { maximumFractionDigits: Math.abs(value) < 10 ? 3 : 1 });
const count = (value, one, many = `${one}s`) => `${value.toLocaleString("en")} ${value === 1 ? one : many}`;
const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
const section = (id, title, ...children) => {
  page.append(make("section", { id, "aria-label": title }, make("h2", {}, title), ...children.filter(Boolean)));
  document.getElementById("contents").append(make("a", { href: `#${id}` }, title));
};
const bars = (items, most = Math.max(1, ...items.map(([, value]) => value)), shares = () => null) => {
  const grid = make("div", { class: "bars" });
  for (const [name, value, more] of items) {
    const parts = shares(more, value) || [value];
    grid.append(
      make("span", { title: name }, name),
      make("span", { class: "bar" }, ...parts.map((part) => { const i = make("i"); i.style.width = `${(100 * part) / most}%`; return i; })),
      make("span", { class: "soft" }, value.toLocaleString("en")),
    );
  }
  return grid;
};
const more = (items, shown, draw) => {  // the first ones, and a button for the rest
  const box = make("div", {}, draw(items.slice(0, shown)));
  if (items.length > shown) {
    box.append(make("div", { class: "controls" }, make("button", { onclick: () => box.replaceChildren(draw(items)) }, `Show all ${items.length}`)));
  }
  return box;
};
const showTip = (event, ...children) => {
  tip.replaceChildren(...children.filter(Boolean));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 8))}px`;
  tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - box.height - 8))}px`;
};
const colour = (place, total) => `hsl(${(place * 360 * 0.618) % 360} ${55 + (place % 3) * 12}% ${48 + (Math.floor(place / 3) % 3) * 8}%)`;
