// Answers in words. Nothing is told by colour or by a number alone.

const CAUSES = {
  no_face: "no face was found",
  several_faces: "there are several faces",
  poor_quality: "the quality is too poor",
  extreme_pose: "the head is turned too far",
};
const PLACES = { probe: "in the first picture", reference: "in the second picture" };

export const number = (value, digits = 3) => (value === null || value === undefined ? "-" : value.toFixed(digits));
export const count = (value) => value.toLocaleString("en");
export const counted = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
export const percent = (share, digits = 1) => (share === null ? "not known" : `${(100 * share).toFixed(digits)} %`);
export const when = (seconds) => new Date(1000 * seconds).toLocaleString();
export const words = (name) => name.replaceAll("_", " ");

export function rate(fmr) {
  const each = 1 / fmr;
  return Math.abs(each - Math.round(each)) < 1e-6 * each ? `1 in ${count(Math.round(each))}` : `${fmr}`;
}

export function duration(seconds) {
  if (seconds === null) return "not known yet";
  if (seconds < 1) return "less than a second";
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

// "no_face_in_probe", or "no_face" where there is one picture alone.
export function reason(code) {
  const [cause, place] = code.split("_in_");
  return [CAUSES[cause] ?? words(cause), PLACES[place]].filter(Boolean).join(" ");
}

export function decision(answer) {
  const { similarity, threshold, fmr } = answer;
  if (answer.decision === "inconclusive") {
    return { mark: "?", kind: "doubt", text: `No decision: ${answer.reasons.map(reason).join("; ")}.` };
  }
  const basis = fmr === null ? "a threshold of your own"
    : `set for ${rate(fmr)} comparisons of different people to match falsely`;
  return answer.decision === "same"
    ? { mark: "✓", kind: "good", text: `Same person: similarity ${number(similarity)} reaches the threshold of ${number(threshold)}, ${basis}.` }
    : { mark: "✗", kind: "bad", text: `Different people: similarity ${number(similarity)} is below the threshold of ${number(threshold)}, ${basis}.` };
}

export function identified(one) {
  const [first] = one.candidates;
  if (one.decision === "known") return { mark: "✓", kind: "good", text: `Known: ${first.subject_id}, similarity ${number(first.similarity)}, threshold ${number(first.threshold)}.` };
  if (one.decision === "ambiguous") return { mark: "?", kind: "doubt", text: `Ambiguous: several subjects are about as similar (a lead of ${number(one.least_margin)} is needed).` };
  if (one.decision === "too_poor") return { mark: "?", kind: "doubt", text: `No decision: ${one.reasons.map(reason).join("; ")}.` };
  return { mark: "✗", kind: "bad", text: "Unknown: nobody in the gallery reaches the threshold." };
}

export function enhanced(done) {
  if (done === null) return "-";
  if (done.status === "applied") return `redrawn by ${done.enhancer} (${words(done.condition)})`;
  return { not_needed: "not needed", off: "off", unavailable: "not available: compared as it is" }[done.status];
}
