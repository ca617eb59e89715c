// The page of migrations: the list, one migration's progress, its plan, and the shadow report.

import { get, post, segment } from "./api.js";
import { histograms } from "./charts.js";
import { $, ask, busy, el, table } from "./dom.js";
import { count, counted, duration, number, percent, words } from "./words.js";

const POLL = 1000; // milliseconds
const PATIENCE = 3000;
const MEBIBYTE = 2 ** 20;
const WEAK_SHOWN = 20;
const LOSSES = "migration_loses";

// What can be asked of a migration, by where it stands.
const STEPS = {
  planned: ["start"],
  running: ["pause"],
  paused: ["resume", "switch"],
  caught_up: ["resume", "switch"],
  failed: ["resume"],
  switched: ["rollback"],
  rolled_back: ["resume"],
};
const STEP_WORDS = {
  start: ["Start", "The new collection is filled in the background. Nothing changes for callers."],
  resume: ["Resume", "The migration goes on where it stopped."],
  pause: ["Pause", "The migration stops after the batch at hand."],
  switch: ["Switch", "The new model becomes live in one step: from then on all callers are answered by it."],
  rollback: ["Roll back", "The old model becomes live again; what was enrolled since is mapped back."],
};
const STATES = {
  planned: "planned, not begun",
  running: "running",
  paused: "paused",
  caught_up: "caught up: ready to switch",
  switched: "switched: the new model is live",
  rolled_back: "rolled back: the old model is live",
  failed: "failed",
};

let selected = null;
let timer = null;
let isSeen = false;
let isAtWork = false;
let drawn = "";

export function prepare() {
  $("plan-form").addEventListener("submit", (event) => {
    event.preventDefault();
    plan($("plan-map").value.trim(), event.submitter);
  });
}

export async function enter() {
  isSeen = true;
  await busy($("migrations-status"), null, "", list);
  if (selected) await follow(selected);
}

export function leave() {
  isSeen = false;
  clearTimeout(timer);
}

async function list() {
  const { migrations } = await get("/v1/migrations");
  $("migrations-list").replaceChildren(migrations.length ? table("Migrations that were planned",
    [["Id", ""], ["From", ""], ["To", ""], ["State", ""], ["More", ""]],
    migrations.map((one) => [one.id, one.source, one.target, STATES[one.state],
      el("button", { type: "button", "aria-label": `Show ${one.id}`, onclick: () => choose(one.id) }, "Show")]))
    : el("p", {}, "None has been planned."));
}

async function choose(id) {
  $("migration-report").replaceChildren();
  $("migration").replaceChildren();
  drawn = "";
  await follow(id);
  $("migration").querySelector("h2")?.focus();
}

// Shows a migration, and looks again while somebody works on it and somebody looks at it.
async function follow(id) {
  clearTimeout(timer);
  if (selected !== id) isAtWork = false;
  selected = id;
  const done = await busy($("migrations-status"), null, $("migrations-status").textContent, async () => {
    const { migration } = await get(`/v1/migrations/${segment(id)}`);
    if (selected !== id) return "";
    show(migration);
    isAtWork = migration.at_work;
    return spoken(migration);
  });
  // An answer that did not come is asked for again, more slowly.
  if (isAtWork && isSeen && selected === id) timer = setTimeout(() => again(id), done ? POLL : PATIENCE);
}

async function again(id) {
  if (document.visibilityState === "visible") await follow(id);
  else timer = setTimeout(() => again(id), POLL);
}

// Said aloud: it changes with each tenth, not with each batch.
function spoken(one) {
  const tenths = one.total ? Math.floor((10 * one.read) / one.total) * 10 : 0;
  return `${words(one.state)}${one.state === "running" ? `, ${Math.min(100, tenths)} %` : ""}${one.failure ? `: ${one.failure}` : ""}`;
}

// The buttons stay as they are while the state does, so that the focus does not get lost.
function show(one) {
  if (drawn !== `${one.id} ${one.state}`) {
    drawn = `${one.id} ${one.state}`;
    $("migration").replaceChildren(
      el("h2", { tabindex: -1 }, `Migration ${one.id}`),
      el("p", {}, `From ${one.source} to ${one.target} by ${one.map}: ${STATES[one.state]}.`),
      el("p", {}, el("label", {}, "Templates that were read ", el("progress", { id: "migration-bar", max: 1, value: 0 })), el("span", { id: "migration-progress" })),
      el("div", { id: "migration-figures", class: "scroll", tabindex: 0, role: "region", "aria-label": "Figures" }),
      el("div", { class: "buttons" },
        ...STEPS[one.state].map((step) => el("button", { type: "button", class: step === "switch" || step === "rollback" ? "danger" : "main", onclick: (event) => act(one.id, step, event.currentTarget) }, STEP_WORDS[step][0])),
        el("button", { type: "button", onclick: (event) => plan(one.map, event.currentTarget) }, "Verdict now"),
        el("button", { type: "button", onclick: (event) => shadow(one.id, event.currentTarget) }, "Shadow report")));
  }
  $("migration-bar").value = one.total ? Math.min(1, one.read / one.total) : 0;
  $("migration-progress").textContent = ` ${count(one.read)} of ${count(one.total)}; still to go: ${one.state === "running" ? duration(one.eta_seconds) : "nobody works on it"}`;
  $("migration-figures").replaceChildren(table("Templates", [["What", ""], ["Number", "number"]], [
    ["mapped and stored", count(one.written)],
    ["deleted, replaced or enrolled natively meanwhile", count(one.skipped)],
    ["left out, mapped already", count(one.second_hand)],
    ["stored with little confidence", count(one.weak)],
    ["mean confidence", number(one.mean_confidence)],
    ["per second lately", number(one.rate, 0)],
    ["mapped back by a rollback", count(one.carried_back)],
  ]));
}

async function act(id, step, button) {
  const [name, what] = STEP_WORDS[step];
  if (!(await ask(`${name}?`, what, name))) return;
  const done = await busy($("migrations-status"), button, `${name}: asked.`, async () => {
    const path = `/v1/migrations/${segment(id)}/${step}`;
    try {
      await post(path, {});
    } catch (error) {
      if (error.code !== LOSSES || !(await ask("Accept the loss?", error.told, `${name} and accept the loss`))) throw error;
      await post(path, { accept_loss: true });
    }
    await list();
    return `${name}: done.`;
  });
  if (done) {
    isAtWork = true; // until it is known
    await follow(id);
    $("migration").querySelector("h2")?.focus();
  }
}

async function plan(map, button) {
  let made = null;
  await busy($("migrations-status"), button, "Looking at a sample of the gallery.", async () => {
    made = await post("/v1/migrations", { map });
    await list();
    return `Verdict: ${made.verdict}.`;
  });
  if (!made) return;
  if (selected !== made.id) await choose(made.id);
  $("migration-report").replaceChildren(...planned(made));
}

function planned(made) {
  const fails = (share) => percent(share, 2);
  return [
    el("h2", {}, "Plan"),
    el("p", { class: "decision" }, `Verdict: ${made.verdict}.`),
    el("p", {}, `It rests on ${made.basis}. ${count(made.looked_at)} of ${count(made.templates)} templates were looked at just now.`),
    el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Plan" }, table(`At a false-match rate of ${made.fmr}`, [["What", ""], ["Figure", "number"]], [
      ["comparisons within subjects that fail now", fails(made.fnmr_before)],
      ["that fail with everything mapped", fails(made.fnmr_mapped)],
      ["that fail if the verdict is followed", fails(made.fnmr_expected)],
      ["false matches here at the map's threshold", made.fmr_at_card === null ? "not known" : made.fmr_at_card.toPrecision(2)],
      ["threshold of new probes against mapped templates", number(made.threshold)],
      ["mean confidence", number(made.mean_confidence)],
      [`weak: confidence below ${number(made.weak_below)}`, percent(made.weak_share)],
      ["mapped already, not mapped on", count(made.second_hand)],
      ["a run will probably take", duration(made.seconds)],
      ["and store", `${count(Math.ceil(made.bytes / MEBIBYTE))} MiB`],
    ])),
    el("div", { class: "columns" }, ...spread(made)),
    made.warnings.length ? el("div", {}, el("h3", {}, "Before it is run"), el("ul", {}, ...made.warnings.map((one) => el("li", {}, one)))) : null,
    made.weak.length ? el("details", {}, el("summary", {}, `Least trusted templates (${count(made.weak.length)} named)`),
      table(`The first ${Math.min(WEAK_SHOWN, made.weak.length)}; their subjects should enrol again`,
        [["Tenant", ""], ["Subject", ""], ["Confidence", "number"]],
        made.weak.slice(0, WEAK_SHOWN).map((one) => [one.tenant, one.subject_id, number(one.confidence)]))) : null,
  ].filter(Boolean);
}

// What `mien migrate plan --out` draws.
function spread(made) {
  const tall = (share) => percent(share);
  const pictures = [
    histograms([-1, 1], made.confidences, [], `Templates by confidence; ${percent(made.weak_share)} are weak`, "confidence", tall),
    ...["source", "mapped"].map((space) => {
      const [genuine, impostor] = ["genuine", "impostor"].map((kind) => made.histograms[`${space} ${kind}`] ?? []);
      if (!impostor.length) return null;
      return histograms([-1, 1], impostor, genuine, `Comparisons among ${space} templates by similarity`, `similarity, ${space} templates`, tall);
    }),
  ].filter(Boolean);
  const words = ["Templates by the map's confidence.", ...["before", "after"].map((side) =>
    `Comparisons of this gallery's templates ${side} the map: filled, of different subjects; in outline, of the same.`)];
  return pictures.map((one, place) => el("figure", {}, one, el("figcaption", {}, words[place])));
}

async function shadow(id, button) {
  await busy($("migrations-status"), button, "", async () => {
    const seen = await get(`/v1/migrations/${segment(id)}/shadow`);
    $("migration-report").replaceChildren(...compared(seen));
    return seen.looked ? `${counted(seen.looked, "face")} compared.` : "No live query has been compared yet.";
  });
}

function compared(seen) {
  const rows = [
    ["both know the same subject", count(seen.same)],
    ["they know different ones", count(seen.other)],
    ["only the live model knows anybody", count(seen.lost)],
    ["only the next one does", count(seen.gained)],
    ["neither does", count(seen.neither)],
    ["share with the same answer", percent(seen.agreement)],
  ];
  return [
    el("h2", {}, "Shadow report"),
    el("p", {}, "What the live model answered to live queries, and what the next one would have."),
    table(`${counted(seen.looked, "face")}`, [["Answers", ""], ["Faces", "number"]], rows),
    seen.looked ? histograms([-0.5, 0.5], seen.live_leads, seen.next_leads,
      "Faces by the lead of the first candidate over its threshold, of the live model and of the next", "lead over the threshold", count) : null,
    seen.looked ? el("p", { class: "hint" }, "Faces by the first candidate's lead over its threshold: filled, the live model; in outline, the next.") : null,
  ].filter(Boolean);
}
