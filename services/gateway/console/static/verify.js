// The page that compares two pictures.

import { get, send } from "./api.js";
import { bar, falseMatches } from "./charts.js";
import { $, busy, el, table } from "./dom.js";
import { Slot } from "./picture.js";
import { decision, enhanced, number, rate, words } from "./words.js";

let models = null;
let slots = [];

export function prepare() {
  slots = ["First picture", "Second picture"].map((title) => new Slot($("verify-pictures"), title, detect));
  $("verify-model").addEventListener("change", rates);
  $("verify-form").addEventListener("submit", (event) => {
    event.preventDefault();
    compare(event.submitter);
  });
}

export async function enter() {
  if (models) return;
  await busy($("verify-status"), null, "", async () => {
    models = (await get("/v1/models")).models;
    $("verify-model").replaceChildren(...models.map((one) =>
      el("option", { value: named(one.identity), selected: one.is_default }, named(one.identity))));
    rates();
  });
}

const named = (identity) => `${identity.name}@${identity.version}`;
const chosenModel = () => models?.find((one) => named(one.identity) === $("verify-model").value);

function rates() {
  $("verify-fmr").replaceChildren(
    el("option", { value: "" }, "as the server has it"),
    ...(chosenModel()?.thresholds ?? []).map((one) => el("option", { value: one.fmr }, rate(one.fmr))));
}

function detect(file) {
  const form = new FormData();
  form.append("image", file, "picture"); // the file's own name may be a person's
  return send("/v1/detect", form);
}

async function compare(button) {
  const status = $("verify-status");
  const empty = slots.find((one) => !one.file);
  if (empty) {
    status.className = "status problem";
    status.textContent = "Choose two pictures first.";
    empty.focus();
    return;
  }
  $("verify-result").replaceChildren();
  await busy(status, button, "Comparing.", async () => {
    const [probe, reference] = slots.map((one) => one.file);
    const answer = await send("/v1/verify", asked(probe, reference));
    const said = decision(answer);
    status.className = `status decision ${said.kind}`;
    for (const [slot, file, side] of [[slots[0], probe, answer.probe], [slots[1], reference, answer.reference]]) {
      if (side.face && side.face_count === 1) slot.show(file, [side.face], () => true, "One face was found.");
    }
    $("verify-result").replaceChildren(...shown(answer));
    return `${said.mark} ${said.text}`;
  });
  status.scrollIntoView({ block: "nearest" });
}

function asked(probe, reference) {
  const form = new FormData();
  form.append("probe", probe, "probe");
  form.append("reference", reference, "reference");
  form.append("include", "enhanced,aligned");
  form.append("enhance", $("verify-enhance").checked);
  form.append("model", $("verify-model").value);
  if ($("verify-fmr").value) form.append("fmr", $("verify-fmr").value);
  if (slots.some((one) => one.face !== null)) {
    form.append("face", "index");
    form.append("probe_index", slots[0].face ?? 0);
    form.append("reference_index", slots[1].face ?? 0);
  }
  return form;
}

function shown(answer) {
  const sides = [["First picture", answer.probe], ["Second picture", answer.reference]];
  return [
    el("div", { class: "columns" },
      el("div", {}, el("h2", {}, "Score and threshold"), ...curve(answer)),
      el("div", {}, el("h2", {}, "Faces as they are compared"),
        el("div", { class: "crops" }, ...sides.flatMap(([title, side]) => crops(title, side))))),
    el("div", { class: "columns" },
      el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Measures" }, el("h2", {}, "Measures"), measures(sides)),
      el("div", {}, el("h2", {}, "Time"), times(answer.timing_ms))),
    el("p", { class: "hint" }, `Model ${named(answer.model)}, request `, el("code", {}, answer.request_id)),
  ];
}

function curve(answer) {
  const model = models?.find((one) => named(one.identity) === named(answer.model));
  if (!model?.thresholds.length) return [el("p", {}, "The model's card has no thresholds to draw.")];
  return [
    falseMatches(model.thresholds, answer.similarity, answer.threshold),
    el("p", { class: "hint" }, "The share of comparisons of different people that reach a similarity, by ",
      `the ${model.thresholds.length} thresholds in the card of ${named(answer.model)}, with intervals of 95 %. `,
      "It is not a histogram: beyond these points nothing was fitted."),
    el("details", {}, el("summary", {}, "The same as a table"),
      table("Thresholds of the card", [["False matches", ""], ["Similarity", "number"], ["95 % interval", "number"]],
        model.thresholds.map((one) => [rate(one.fmr), number(one.similarity), one.interval.map((end) => number(end)).join(" to ")]))),
  ];
}

function crops(title, side) {
  const pictures = [
    [side.aligned, "aligned", `${title}: the face cut out and turned upright`],
    [side.enhancement?.image, `${enhanced(side.enhancement)}. Synthetic: no camera has seen it.`, `${title}: the face redrawn, synthetic`],
  ].filter(([data]) => data);
  if (!pictures.length) return [el("p", {}, `${title}: no face.`)];
  return pictures.map(([data, words, alt]) => el("figure", {},
    el("img", { src: `data:image/png;base64,${data}`, alt, width: 112, height: 112 }),
    el("figcaption", {}, `${title}, ${words}`)));
}

function measures(sides) {
  const faces = sides.map(([, side]) => side.face);
  const row = (name, of) => [name, ...faces.map((face) => (face ? of(face) : "-"))];
  const parts = [...new Set(faces.flatMap((face) => Object.keys(face?.quality.components ?? {})))].sort();
  return table("Quality from 0 to 100, higher is better; angles in degrees",
    [["Measure", ""], ["First", "number"], ["Second", "number"]], [
      ["faces in the picture", ...sides.map(([, side]) => `${side.face_count}`)],
      row("unified quality", (face) => number(face.quality.unified, 1)),
      ...parts.map((part) => row(words(part), (face) => number(face.quality.components[part] ?? null, 1))),
      row("yaw, pitch, roll", ({ pose }) => [pose.yaw, pose.pitch, pose.roll].map((one) => number(one, 0)).join(", ")),
      row("pixels between the eyes", (face) => number(face.inter_eye_distance, 0)),
      row("light", (face) => words(face.modality)),
      row("detector score", (face) => number(face.score, 2)),
      ["enhancement", ...sides.map(([, side]) => enhanced(side.enhancement))],
    ]);
}

function times(stages) {
  const most = Math.max(...Object.values(stages));
  return table("Milliseconds by stage; the two pictures are worked on side by side, so the stages may sum to more than the total",
    [["Stage", ""], ["ms", "number"], ["To scale", ""]],
    Object.entries(stages).map(([stage, ms]) => [words(stage), number(ms, 1), bar(ms / most)]));
}
