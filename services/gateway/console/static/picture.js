// A place for one picture: chosen, dropped, previewed on a canvas with its faces.
//
// The preview is drawn from the file itself: there are no object URLs that would have to be revoked.

import { el } from "./dom.js";

const MOST = 960; // pixels of the preview's longer side
const UNDER = "#fff";
const OVER = "#0b3d91";

export class Slot {
  #input = el("input", { type: "file", accept: "image/*,.heic,.heif,.tif,.tiff" });
  #canvas = el("canvas", { role: "img", hidden: true });
  #facts = el("p", { class: "facts", "aria-live": "polite" });
  #select = el("select");
  #choice = el("label", { hidden: true }, "Face that is compared ", this.#select);
  #drop;
  #title;
  #bitmap = null;
  #shown = [];

  // look: given the file, answers {faces, width, height}; null to show the picture alone.
  constructor(place, title, look = null) {
    this.#title = title;
    this.file = null;
    this.#drop = el("label", { class: "drop" },
      el("strong", {}, title), el("span", { class: "hint" }, "Choose a file, or drop one here."), this.#input);
    this.#input.addEventListener("change", () => this.#take(this.#input.files[0], look));
    this.#input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return; // as on a button; otherwise it would send the form
      event.preventDefault();
      this.#input.click();
    });
    for (const name of ["dragenter", "dragover"]) {
      this.#drop.addEventListener(name, (event) => this.#over(event, true));
    }
    for (const name of ["dragleave", "drop"]) {
      this.#drop.addEventListener(name, (event) => this.#over(event, false));
    }
    this.#drop.addEventListener("drop", (event) => this.#take(event.dataTransfer.files[0], look));
    this.#select.addEventListener("change", () => this.#draw());
    place.append(el("div", { class: "slot" }, this.#drop, this.#canvas, this.#facts, this.#choice));
  }

  // Index of the face that the user chose; null for the largest.
  get face() {
    return this.#choice.hidden || this.#select.value === "" ? null : Number(this.#select.value);
  }

  focus() {
    this.#input.focus();
  }

  clear() {
    this.#input.value = "";
    this.#take(undefined, null);
    this.#facts.textContent = "";
  }

  // Faces as the service measured them in this very file.
  show(file, faces, chosen, words) {
    if (file !== this.file) return;
    this.#shown = faces.map((face, place) => ({ face, place, chosen: chosen(place) }));
    this.#facts.textContent = words;
    this.#draw();
  }

  #over(event, inside) {
    event.preventDefault();
    this.#drop.classList.toggle("over", inside);
  }

  async #take(file, look) {
    this.file = file ?? null;
    this.#shown = [];
    this.#choice.hidden = true;
    this.#bitmap?.close();
    this.#bitmap = null;
    this.#canvas.hidden = true;
    if (!file) return;
    this.#facts.textContent = look ? "Looking for faces." : "";
    const bitmap = await createImageBitmap(file).catch(() => null);
    if (file !== this.file) {
      bitmap?.close();
      return;
    }
    this.#bitmap = bitmap;
    this.#draw();
    const unseen = bitmap ? "" : "This browser cannot show this file. ";
    this.#facts.textContent = unseen + this.#facts.textContent;
    if (!look) return;
    try {
      const { faces } = await look(file);
      if (file === this.file) this.#found(faces, unseen);
    } catch (error) {
      if (file === this.file) this.#facts.textContent = unseen + (error.told ?? "The faces cannot be shown.");
    }
  }

  #found(faces, unseen) {
    const several = faces.length > 1;
    this.#select.replaceChildren(
      el("option", { value: "" }, "the largest (1)"),
      ...faces.slice(1).map((_, place) => el("option", { value: place + 1 }, `number ${place + 2}`)));
    this.#choice.hidden = !several;
    const words = ["No face was found.", "One face was found."][faces.length] ?? `${faces.length} faces were found, numbered by size.`;
    this.show(this.file, faces, (place) => place === (this.face ?? 0), unseen + words);
  }

  #draw() {
    const bitmap = this.#bitmap;
    if (!bitmap) return;
    const scale = Math.min(1, MOST / Math.max(bitmap.width, bitmap.height));
    const canvas = this.#canvas;
    canvas.width = Math.max(1, Math.round(bitmap.width * scale));
    canvas.height = Math.max(1, Math.round(bitmap.height * scale));
    const pen = canvas.getContext("2d");
    pen.imageSmoothingQuality = "high";
    pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    const several = !this.#choice.hidden;
    for (const { face, place, chosen } of this.#shown) {
      outline(pen, face, scale, several ? place === (this.face ?? 0) : chosen, this.#shown.length > 1 ? place + 1 : "");
    }
    canvas.hidden = false;
    const count = this.#shown.length;
    const marked = ["no face is", "one face is"][count] ?? `${count} faces are`;
    canvas.setAttribute("aria-label", `${this.#title}: ${marked} marked by a box and five points`);
  }
}

// Chosen faces have a whole line, others a dashed one.
function outline(pen, face, scale, chosen, label) {
  const { x, y, width, height } = face.box;
  const thick = chosen ? 3 : 2;
  for (const [colour, line] of [[UNDER, thick + 3], [OVER, thick]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = line;
    pen.setLineDash(chosen ? [] : [8, 6]);
    pen.strokeRect(x * scale, y * scale, width * scale, height * scale);
  }
  pen.setLineDash([]);
  const radius = Math.max(2, Math.min(5, (width * scale) / 40));
  for (const point of face.points) {
    pen.beginPath();
    pen.arc(point.x * scale, point.y * scale, radius, 0, 2 * Math.PI);
    pen.fillStyle = OVER;
    pen.strokeStyle = UNDER;
    pen.lineWidth = 1.5;
    pen.fill();
    pen.stroke();
  }
  if (label) {
    pen.font = "bold 18px sans-serif";
    pen.fillStyle = OVER;
    pen.fillRect(x * scale, y * scale, 24, 24);
    pen.fillStyle = UNDER;
    pen.fillText(label, x * scale + 6, y * scale + 18);
  }
}
