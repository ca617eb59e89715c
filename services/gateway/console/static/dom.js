// Makes elements. Text goes in as text, never as markup: ids and names come from callers.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((one) => one !== null && one !== undefined));
  return made;
}

// head: [text, "number" | ""]; rows: texts or nodes. The first cell of a row names it.
export function table(caption, head, rows) {
  const cell = (tag, content, place, more = {}) => el(tag, { class: head[place][1] || null, ...more }, content);
  return el("table", {},
    el("caption", {}, caption),
    el("thead", {}, el("tr", {}, ...head.map(([text], place) => cell("th", text, place, { scope: "col" })))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((content, place) =>
      place ? cell("td", content, place) : cell("th", content, place, { scope: "row" }))))));
}

export function chart(width, height, label, ...children) {
  return svg("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, ...children);
}

// Runs what a button or a form asks for: says that it is at work, then what came of it, or the problem.
// True if it was done.
export async function busy(status, button, words, work) {
  const focused = button !== null && document.activeElement === button;
  status.className = "status";
  say(status, words);
  if (button) button.disabled = true;
  try {
    say(status, (await work()) ?? "");
    return true;
  } catch (error) {
    status.className = "status problem";
    say(status, error.told ?? "The console failed. Load the page again.");
    if (!error.told) throw error;
    return false;
  } finally {
    if (button) button.disabled = false;
    // A button that is switched off loses the focus, and with it the place of who works by keyboard.
    if (focused && document.activeElement === document.body) button.focus();
  }
}

// The same words again would be read aloud again.
function say(status, words) {
  if (status.textContent !== words) status.textContent = words;
}

// Asks before something is done; true if it is to be done. "Cancel" has the focus.
export function ask(title, text, yes) {
  const dialog = $("ask-dialog");
  $("ask-title").textContent = title;
  $("ask-text").textContent = text;
  $("ask-yes").textContent = yes;
  return new Promise((resolve) => {
    const closed = () => resolve(dialog.returnValue === "yes");
    $("ask-yes").onclick = () => dialog.close("yes");
    $("ask-no").onclick = () => dialog.close("no");
    dialog.addEventListener("close", closed, { once: true });
    dialog.returnValue = "no";
    dialog.showModal();
    $("ask-no").focus();
  });
}
