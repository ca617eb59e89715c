// The public REST interface, and the caller's key: in memory, or with the tab if the user says so.

import { $ } from "./dom.js";

const KEPT = "mien-console-caller";
let caller = kept();
let asking = null;

// What the service refused, in a sentence.
export class Problem extends Error {
  constructor(problem, requestId) {
    super(problem.code);
    this.code = problem.code;
    this.problem = problem;
    const wait = problem.retry_after ? ` Try again in ${Math.ceil(problem.retry_after)} s.` : "";
    const other = problem.subject_id ? ` It is ${problem.subject_id}.` : "";
    this.told = `${problem.detail}${other}${wait} (${problem.code}${requestId ? `, request ${requestId}` : ""})`;
  }
}

export const get = (path) => request("GET", path);
export const remove = (path) => request("DELETE", path);
export const post = (path, json) => request("POST", path, JSON.stringify(json), { "content-type": "application/json" });
export const send = (path, form, headers = {}) => request("POST", path, form, headers);
export const segment = (text) => encodeURIComponent(text);

async function request(method, path, body = null, headers = {}) {
  let used = caller;
  let answer = await once(method, path, body, headers);
  while (answer.status === 401) {
    // A key that another request has asked for meanwhile is tried first.
    if (used === caller && !(await askForKey(used.secret ? "This key is not valid." : "This Mien must know its callers."))) break;
    used = caller;
    answer = await once(method, path, body, headers);
  }
  const told = await answer.json().catch(() => null);
  if (answer.ok && told !== null) return told;
  const fallback = { code: `http_${answer.status}`, detail: "The answer cannot be read." };
  throw new Problem(told?.code ? told : fallback, answer.headers.get("x-request-id"));
}

async function once(method, path, body, headers) {
  const own = { ...headers };
  if (caller.secret) own.authorization = `Bearer ${caller.secret}`;
  if (caller.tenant) own["x-mien-tenant"] = caller.tenant;
  try {
    // Relative, so that it holds behind a proxy that puts a path before it.
    return await fetch(`..${path}`, { method, body, headers: own, credentials: "omit", cache: "no-store" });
  } catch {
    throw new Problem({ code: "unreachable", detail: "Mien does not answer." });
  }
}

// True once there is another key; several requests that wait for one ask once.
export function askForKey(why) {
  asking ??= asked(why).finally(() => { asking = null; });
  return asking;
}

function asked(why) {
  const dialog = $("key-dialog");
  $("key-why").textContent = why;
  $("key-secret").value = "";
  $("key-tenant").value = caller.tenant;
  return new Promise((resolve) => {
    dialog.returnValue = "";
    dialog.addEventListener("close", () => {
      $("key-secret").value = "";
      resolve(dialog.returnValue === "use");
    }, { once: true });
    $("key-form").onsubmit = (event) => {
      event.preventDefault();
      use($("key-secret").value.trim() || caller.secret, $("key-tenant").value.trim(), $("key-keep").checked);
      dialog.close("use");
    };
    $("key-forget").onclick = () => {
      use("", "", false);
      dialog.close("");
    };
    $("key-cancel").onclick = () => dialog.close("");
    dialog.showModal();
    $("key-secret").focus();
  });
}

function use(secret, tenant, keep) {
  caller = { secret, tenant };
  try {
    if (keep) sessionStorage.setItem(KEPT, JSON.stringify(caller));
    else sessionStorage.removeItem(KEPT);
  } catch {
    // A browser that keeps nothing: it stays in memory.
  }
}

function kept() {
  try {
    const { secret, tenant } = JSON.parse(sessionStorage.getItem(KEPT));
    return { secret, tenant };
  } catch {
    return { secret: "", tenant: "" };
  }
}
