// Pictures of numbers, each with a label that says what is to be seen in it.

import { chart, svg } from "./dom.js";
import { number, rate } from "./words.js";

const WIDTH = 440;
const HEIGHT = 270;
const LEFT = 92;
const RIGHT = 20;
const TOP = 56;
const HEAD = 14; // of a histogram, which has no labels above it
const BOTTOM = 46;

const text = (x, y, words, anchor = "middle") => svg("text", { x, y, "text-anchor": anchor }, words);
const line = (x1, y1, x2, y2, kind) => svg("line", { x1, y1, x2, y2, class: kind });

// A score on the false-match rates of a model's card: share of comparisons of different people with
// this similarity or more, in logarithmic scale.
export function falseMatches(thresholds, score, threshold) {
  const points = [...thresholds].sort((a, b) => a.similarity - b.similarity);
  const all = [...points.flatMap((one) => one.interval), threshold, ...(score === null ? [] : [score])];
  const low = Math.min(...all);
  const high = Math.max(...all);
  const pad = 0.08 * (high - low || 1);
  const place = (value) => LEFT + ((value - low + pad) / (high - low + 2 * pad)) * (WIDTH - LEFT - RIGHT);
  const logs = points.map((one) => Math.log10(one.fmr));
  const top = Math.max(...logs) + 0.3;
  const bottom = Math.min(...logs) - 0.3;
  const level = (fmr) => TOP + ((top - Math.log10(fmr)) / (top - bottom)) * (HEIGHT - TOP - BOTTOM);
  const floor = HEIGHT - BOTTOM;
  const label = `False-match rate by similarity. The threshold is ${number(threshold)}, ${score === null ? "there is no score" : `the score ${number(score)}, ${score >= threshold ? "at or above" : "below"} it`}.`;
  return chart(WIDTH, HEIGHT, label,
    line(LEFT, TOP, LEFT, floor, "axis"), line(LEFT, floor, WIDTH - RIGHT, floor, "axis"),
    ...ticks(low - pad, high + pad).flatMap((value) => [
      line(place(value), floor, place(value), floor + 5, "axis"), text(place(value), floor + 20, number(value, 2)),
    ]),
    text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "similarity"),
    text(2, TOP - 12, "false matches", "start"),
    ...points.flatMap((one) => [
      line(LEFT - 5, level(one.fmr), LEFT, level(one.fmr), "axis"), text(LEFT - 8, level(one.fmr) + 4, rate(one.fmr), "end"),
      line(place(one.interval[0]), level(one.fmr), place(one.interval[1]), level(one.fmr), "curve"),
      svg("circle", { cx: place(one.similarity), cy: level(one.fmr), r: 4, class: "dot" }),
    ]),
    svg("polyline", { class: "curve", points: points.map((one) => `${place(one.similarity)},${level(one.fmr)}`).join(" ") }),
    line(place(threshold), TOP - 16, place(threshold), floor, "threshold"),
    inside(place(threshold), 34, `threshold ${number(threshold)}`),
    ...(score === null ? [] : [
      line(place(score), TOP - 34, place(score), floor, "score"),
      svg("path", { class: "mark", d: `M${place(score)} ${floor}l-7 12h14z` }),
      inside(place(score), 14, `score ${number(score)}`),
    ]));
}

// Two histograms over the same bins: the first filled, the second in outline. told: words of a height.
export function histograms([low, high], first, second, label, axis, told) {
  const most = Math.max(...first, ...second) || 1;
  const wide = (WIDTH - LEFT - RIGHT) / Math.max(first.length, second.length);
  const floor = HEIGHT - BOTTOM;
  const bar = (share, bin, kind) => {
    const tall = (share / most) * (floor - HEAD);
    return svg("rect", { x: LEFT + bin * wide, y: floor - tall, width: wide, height: tall, class: kind });
  };
  return chart(WIDTH, HEIGHT, label,
    line(LEFT, floor, WIDTH - RIGHT, floor, "axis"),
    ...first.map((share, bin) => bar(share, bin, "bar")),
    ...second.map((share, bin) => (share ? bar(share, bin, "bar second") : "")),
    ...ticks(low, high).map((value) => text(LEFT + ((value - low) / (high - low)) * (WIDTH - LEFT - RIGHT), floor + 18, number(value, 2))),
    text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, axis),
    text(LEFT - 8, HEAD + 4, told(most), "end"), text(LEFT - 8, floor + 4, "0", "end"));
}

// A bar in a row of a table that says the number beside it.
export function bar(share) {
  return svg("svg", { width: 160, height: 12, "aria-hidden": "true", class: "chart" },
    svg("rect", { class: "bar", width: Math.max(1, 160 * share), height: 12 }));
}

// A label that does not leave the picture.
function inside(x, y, words) {
  if (x > WIDTH - 90) return text(WIDTH - RIGHT, y, words, "end");
  return x < LEFT + 60 ? text(LEFT - 20, y, words, "start") : text(x, y, words);
}

function ticks(low, high) {
  const step = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5].find((one) => (high - low) / one <= 8) ?? (high - low) / 5;
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + 1e-9; value += step) found.push(Math.abs(value) < 1e-9 ? 0 : value);
  return found;
}
