// Starts the console and says which page is seen.

import { askForKey } from "./api.js";
import { $ } from "./dom.js";
import * as gallery from "./gallery.js";
import * as migrations from "./migrations.js";
import * as verify from "./verify.js";

const PAGES = { verify, gallery, migrations };
let current = null;

function route(moved) {
  const name = location.hash.slice(1);
  const wanted = Object.hasOwn(PAGES, name) ? name : current ?? "verify";
  if (wanted === current) return;
  PAGES[current]?.leave?.();
  current = wanted;
  for (const one of Object.keys(PAGES)) $(`page-${one}`).hidden = one !== current;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${current}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const title = $(`title-${current}`);
  document.title = `${title.textContent} - Mien console`;
  if (moved) title.focus();
  PAGES[current].enter();
}

for (const page of Object.values(PAGES)) page.prepare();
$("open-key").addEventListener("click", async () => {
  if (await askForKey("It is sent with each request of this page, and never in an address.")) {
    PAGES[current].leave?.();
    PAGES[current].enter();
  }
});
window.addEventListener("hashchange", () => route(true));
route(false);
