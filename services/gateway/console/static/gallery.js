// The page of the gallery: who is stored, enrolment, identification, deletion with its proof.

import { get, remove, segment, send } from "./api.js";
import { $, ask, busy, el, table } from "./dom.js";
import { Slot } from "./picture.js";
import { count, counted, enhanced, identified, number, percent, reason, when } from "./words.js";

const PAGE = 20;
let next = null;
let enrolment = null;
let probe = null;

export function prepare() {
  enrolment = new Slot($("enrol-picture"), "Picture to enrol");
  probe = new Slot($("identify-picture"), "Picture to identify");
  $("gallery-first").addEventListener("click", () => subjects(null));
  $("gallery-next").addEventListener("click", () => subjects(next));
  onSubmit("enrol-form", enrol);
  onSubmit("identify-form", identify);
}

export async function enter() {
  await subjects(null);
}

// What was seen of people does not stay behind on a page that nobody looks at.
export function leave() {
  for (const id of ["gallery-subjects", "gallery-subject", "identify-result"]) $(id).replaceChildren();
}

function onSubmit(id, work) {
  $(id).addEventListener("submit", (event) => {
    event.preventDefault();
    work(event.submitter);
  });
}

const title = (model) => `${model.name}@${model.version}`;

async function subjects(cursor) {
  await busy($("gallery-status"), null, "", async () => {
    const after = cursor ? `&cursor=${segment(cursor)}` : "";
    const [gallery, page] = await Promise.all([get("/v1/gallery"), get(`/v1/subjects?limit=${PAGE}${after}`)]);
    $("gallery-about").textContent = about(gallery);
    next = page.cursor;
    $("gallery-next").disabled = next === null;
    $("gallery-subjects").replaceChildren(page.subjects.length ? listed(page.subjects) : el("p", {}, "There are none."));
  });
}

function about(gallery) {
  const [live] = gallery.collections;
  if (!live) return `Nobody is stored yet. The first enrolment will use ${gallery.first_model}.`;
  return `${title(live.model)} is live; ${counted(live.searchable, "template")} to search, with one search in ${count(Math.round(1 / gallery.default_fpir))} for a stranger expected to name somebody falsely.`;
}

function listed(found) {
  return table("By id", [["Id", ""], ["Name", ""], ["Consent", ""], ["Since", ""], ["More", ""]], found.map((one) => [
    one.id, one.name || "-", one.consent ? "given" : "withdrawn", when(one.created),
    el("button", { type: "button", "aria-label": `Show ${one.id}`, onclick: () => show(one.id) }, "Show"),
  ]));
}

async function show(id) {
  await busy($("gallery-status"), null, "", async () => {
    const { subject, templates } = await get(`/v1/subjects/${segment(id)}`);
    const heading = el("h2", { tabindex: -1 }, `Subject ${subject.id}`);
    $("gallery-subject").replaceChildren(heading,
      el("p", {}, `Name: ${subject.name || "none"}. Consent: ${subject.consent ? "given" : "withdrawn"}. Changed ${when(subject.updated)}.`),
      el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Templates" }, templateTable(templates)),
      el("div", { class: "buttons" },
        el("button", { type: "button", class: "danger", onclick: () => erase(subject.id, templates.length) }, `Delete ${subject.id}`)));
    heading.focus();
  });
}

function templateTable(templates) {
  return table(`${counted(templates.length, "template")}; the vectors are not shown`,
    [["Template", ""], ["Model", ""], ["Live", ""], ["Quality", "number"], ["Confidence", "number"], ["Pictures", "number"], ["Since", ""]],
    templates.map((one) => [
      el("code", {}, one.id), one.model.map ? `${title(one.model)}, mapped by ${one.model.map}` : title(one.model),
      one.live ? "yes" : "no", number(one.quality, 1), number(one.confidence), `${one.pictures}`, when(one.created),
    ]));
}

async function erase(id, templates) {
  if (!(await ask(`Delete ${id}?`, `The subject ${id} goes with ${counted(templates, "template")} in all model versions. This cannot be undone.`, `Delete ${id}`))) return;
  await busy($("gallery-status"), null, "Deleting.", async () => {
    const proof = await remove(`/v1/subjects/${segment(id)}`);
    await subjects(null);
    $("gallery-subject").replaceChildren(...proven(proof));
    return proof.verified ? `Deleted: ${id}. A second look found nothing.` : `Deleted, but a second look found something of ${id}.`;
  });
}

function proven(proof) {
  const places = (found) => Object.entries(found).map(([place, left]) => `${place}: ${left}`).join(", ") || "none";
  return [
    el("h2", {}, "Proof of deletion"),
    table("As the gallery answered", [["What", ""], ["Answer", ""]], [
      ["Subject", proof.subject_id ?? "-"],
      ["Second look", proof.verified ? "found nothing" : "found something"],
      ["Left, by place", places(proof.remaining)],
      ["Templates deleted", places(proof.templates)],
      ["Taken out of search", places(proof.searchable)],
      ["Idempotency keys deleted", `${proof.keys}`],
      ["Bytes overwritten on disk", proof.overwritten ? "yes" : "no"],
      ["At", when(proof.at)],
      ["Request", el("code", {}, proof.request_id)],
    ]),
  ];
}

async function enrol(button) {
  const status = $("enrol-status");
  const { file } = enrolment;
  if (!file) return missing(status, enrolment);
  const id = $("enrol-id").value.trim();
  await busy(status, button, "Enrolling.", async () => {
    const form = new FormData();
    form.append("picture", file, "picture"); // the file's own name may be a person's
    if ($("enrol-name").value) form.append("name", $("enrol-name").value);
    form.append("allow_duplicate", $("enrol-duplicate").checked);
    const answer = await send(`/v1/subjects/${segment(id)}/templates`, form, { "idempotency-key": unique() });
    const [picture] = answer.pictures;
    if (picture?.chosen.face) enrolment.show(file, [picture.chosen.face], () => true, "One face was found.");
    if (answer.outcome === "refused") return `Not enrolled: ${picture.reasons.map(reason).join("; ")}.`;
    await subjects(null);
    return `Enrolled: ${answer.subject_id}, quality ${number(picture?.chosen.face?.quality.unified, 1)}.`;
  });
}

async function identify(button) {
  const status = $("identify-status");
  const { file } = probe;
  if (!file) return missing(status, probe);
  $("identify-result").replaceChildren();
  await busy(status, button, "Searching.", async () => {
    const form = new FormData();
    form.append("picture", file, "picture");
    form.append("limit", $("identify-limit").value);
    const answer = await send("/v1/identify", form);
    const { faces } = answer.pictures[0];
    probe.show(file, faces.map((one) => one.face), () => true, faces.length > 1 ? "The faces are numbered by size." : "");
    $("identify-result").replaceChildren(...faces.flatMap((one, place) => found(one, faces.length > 1 ? `Face ${place + 1}. ` : "")),
      el("p", { class: "hint" }, basis(answer), " Request ", el("code", {}, answer.request_id)));
    return faces.length ? `${counted(faces.length, "face")} searched for.` : "No decision: no face was found.";
  });
}

function found(one, lead) {
  const said = identified(one);
  const rows = one.candidates.map((candidate) => [
    candidate.subject_id, number(candidate.similarity), number(candidate.threshold),
    candidate.similarity >= candidate.threshold ? "yes" : "no",
  ]);
  return [
    el("p", { class: `decision ${said.kind}` }, `${said.mark} ${lead}${said.text}`),
    rows.length ? table("Candidates, the most similar first", [["Subject", ""], ["Similarity", "number"], ["Threshold", "number"], ["Reaches it", ""]], rows) : null,
    one.enhancement?.status === "applied" ? el("p", { class: "hint" }, `The face was ${enhanced(one.enhancement)}.`) : null,
  ].filter(Boolean);
}

function basis(answer) {
  const beyond = answer.extrapolated ? ", beyond those that were fitted" : "";
  const rate = answer.fpir === null ? "" : `, set for ${percent(answer.fpir)} of searches for strangers to name somebody`;
  return `Searched: ${counted(answer.searched, "template")} of ${title(answer.model)}; threshold ${number(answer.threshold)}${rate}${beyond}.`;
}

function missing(status, slot) {
  status.className = "status problem";
  status.textContent = "Choose a picture first.";
  slot.focus();
}

// crypto.randomUUID is not there over plain HTTP.
function unique() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
