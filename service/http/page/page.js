// The page for trying a model. It asks the routes that every client asks, and keeps nothing.
"use strict";

const SHOWN = 5; // labels that are not folded
const AT_ONCE = 4; // images in flight
const FRAME_MILLISECONDS = 100; // of the webcam, at least

let key = "";
let explains = false;
let counted = 0;
let chosen = { name: "", version: "" }; // the model and the version that are asked; empty: the default
// The same version answers this page's questions of one model, whatever share of all goes to a canary.
const visitor = Math.random().toString(36).slice(2);
const cards = new Map();
const results = new Set();

const $ = (id) => document.getElementById(id);
const say = (text) => ($("status").textContent = text);

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// ---- asking ----

class Refusal extends Error {
  constructor(status, title, detail) {
    super(detail);
    Object.assign(this, { status, title, detail });
  }
}

// The path of a route of the chosen model: predict, explain, model or examples.
function path(route, { name, version } = chosen, query = {}) {
  const card = name ? `models/${encodeURIComponent(name)}` : "model";
  const other = name ? `${card}/${route}` : route;
  const found = { model: card, examples: `${card}/examples` }[route] ?? other;
  const asked = new URLSearchParams({ ...query, ...(version && { version }) }).toString();
  return asked ? `${found}?${asked}` : found;
}

const headers = () => ({
  Accept: "application/json",
  "X-Canary-Key": visitor,
  ...(key && { "X-API-Key": key }),
});

async function ask(route, body) {
  const method = body ? "POST" : "GET";
  let response;
  try {
    response = await fetch(route, { method, body, headers: headers() });
  } catch {
    throw new Refusal(0, "There is no answer", "The service cannot be reached, or the file cannot be read.");
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer) return answer;
  if (response.status === 401 && $("key").hidden) {
    $("key").hidden = false;
    $("secret").focus();
  }
  throw new Refusal(
    response.status,
    answer?.title ?? `Status ${response.status} ${response.statusText}`.trim(),
    answer?.detail ?? "This answer is not the service's own: something between here and there refused.",
  );
}

// What the model that answers now says of itself, or null where it may not be read.
async function read(route) {
  const response = await fetch(route, { headers: headers() }).catch(() => null);
  return response?.ok ? response.json().catch(() => null) : null;
}

// The card of the model that gave an answer: its figures hold for no other.
function cardOf({ name, version }, asked) {
  const id = `${path("model", asked)} ${name} ${version}`;
  const fits = (card) => (card?.name === name && card.version === version ? card : null);
  if (!cards.has(id)) cards.set(id, read(path("model", asked)).then(fits));
  return cards.get(id);
}

// What there is to choose from, where there is more than one version of one model.
async function list() {
  const listed = (await read("models"))?.models ?? [];
  const options = listed.flatMap(({ name, default: first, versions }) =>
    versions
      .filter(({ state }) => state === "available")
      .map(({ version, labels }) => {
        const notes = [...labels, ...(version === first && !labels.length ? ["default"] : [])].join(", ");
        const text = `${name}, version ${version}${notes && ` (${notes})`}`;
        // A single model needs no name, and may have one that no path can carry.
        return [{ name: listed.length > 1 ? name : "", version: String(version) }, text];
      }),
  );
  $("which").hidden = options.length < 2;
  if (options.length < 2) return;
  // Of several models, there may be none that answers where none is named.
  if (await read("model")) options.unshift([{ name: "", version: "" }, "what answers by default"]);
  [[chosen]] = options;
  const choices = options.map(([one, text]) => make("option", { value: JSON.stringify(one), textContent: text }));
  $("models").replaceChildren(...choices);
}

async function begin() {
  await list();
  await introduce();
}

async function introduce() {
  const asked = chosen;
  const response = await fetch(path("explain", asked), { method: "OPTIONS" }).catch(() => null);
  const card = await read(path("model", asked));
  if (chosen !== asked) return;
  explains = Boolean(response?.ok);
  if (!card) return;
  const some = card.labels.slice(0, 12).join(", ");
  const more = card.labels.length > 12 ? ", …" : "";
  const known = `The model ${card.name} knows ${card.labels.length} labels: ${some}${more}.`;
  const right = card.figures.accuracy === null ? "" : ` ${rightOf(card)}`;
  $("model").textContent = known + right;
  const found = card.examples && (await read(path("examples", asked)));
  if (chosen === asked) offer(found?.examples ?? []);
}

// Test images of the model's own, as buttons.
function offer(examples) {
  $("shown").replaceChildren(
    ...examples.map(({ label, image }) => {
      const button = make("button", { type: "button" }, make("img", { alt: "Test image:", src: image }), label);
      button.addEventListener("click", () => {
        const file = fileOf(image);
        add([[file, nameOf(file, label.replaceAll("/", "-"))]]);
      });
      return button;
    }),
  );
  $("examples").hidden = !examples.length;
}

function fileOf(dataUrl) {
  const [, type, base64] = dataUrl.match(/^data:([^;]+);base64,(.+)$/);
  return new Blob([Uint8Array.from(atob(base64), (one) => one.charCodeAt(0))], { type });
}

// ---- words ----

function percent(probability) {
  if (probability > 0.999) return "> 99.9 %";
  if (probability < 0.001) return "< 0.1 %";
  return `${(100 * probability).toFixed(1)} %`;
}

const imagesOf = ({ images, split }) => `${images.toLocaleString("en")} ${split} images`;

function rightOf(card) {
  if (card.activation === "sigmoid") return "";
  return `It gave the right one for ${percent(card.figures.accuracy)} of ${imagesOf(card.figures)}.`;
}

const LIKE_TRAINING = "This holds for images like those the model was trained on.";

// What a probability means, from what was measured on this very model.
function meaning(probability, card) {
  if (card?.activation === "sigmoid")
    return "Each label's probability stands alone: an image may show several of them, or none.";
  const bins = card?.figures.reliability;
  if (bins) return `${ofAnswersLike(probability, bins, card)} ${LIKE_TRAINING}`;
  const error = card?.figures.calibration_error ?? null;
  if (error === null) return "";
  const points = `${(100 * error).toFixed(1)} points`;
  if (error > 0.05)
    return `Take the percentages with care: on ${imagesOf(card.figures)} they were off by ${points} on average.`;
  const right = Math.min(99, Math.round(100 * probability));
  return (
    `Of answers like this one, about ${right} in 100 were right on ${imagesOf(card.figures)}, give or take` +
    ` ${points} on average. ${LIKE_TRAINING}`
  );
}

// Of the test images that were answered about as surely.
function ofAnswersLike(probability, bins, { figures }) {
  const { right, images } = bins.findLast(({ lowest }) => lowest <= probability) ?? bins[0];
  const share = Math.round(100 * right);
  const some = share === 100 ? "more than 99" : share === 0 ? "fewer than 1" : share;
  return `Of answers like this one, ${some} in 100 were right (${imagesOf({ images, split: figures.split })}).`;
}

function strangeness({ familiarity }) {
  const text = "This is unlike anything the model was trained on: do not trust the labels below.";
  if (typeof familiarity !== "number") return text;
  const share = familiarity < 0.001 ? "fewer than 1" : `about ${Math.round(1000 * familiarity)}`;
  return `${text} Of 1,000 images that it does know, ${share} would look as strange.`;
}

// ---- parts of an answer ----

function row({ label, probability }, choose) {
  const name = choose
    ? make("button", { type: "button", textContent: label, title: `Show why ${label}` })
    : make("span", { textContent: label });
  if (choose) {
    name.setAttribute("aria-pressed", "false");
    name.addEventListener("click", () => choose(label, name));
  }
  const bar = make("span", { className: "bar" });
  bar.style.width = `${100 * probability}%`;
  return make("li", {}, name, make("span", { className: "share", textContent: percent(probability) }), bar);
}

function bars(predictions, choose) {
  const rows = (some) => make("ol", {}, ...some.map((one) => row(one, choose)));
  const rest = predictions.slice(SHOWN);
  if (rest.length < 2) return [rows(predictions)];
  const folded = make("details", {}, make("summary", { textContent: `${rest.length} more labels` }));
  folded.addEventListener("toggle", () => folded.append(rows(rest)), { once: true });
  return [rows(predictions.slice(0, SHOWN)), folded];
}

async function copy(pre) {
  try {
    await navigator.clipboard.writeText(pre.textContent);
  } catch {
    // Without https there is no clipboard but this one.
    getSelection().selectAllChildren(pre);
    document.execCommand("copy");
  }
  say("Copied.");
}

function code(title, text) {
  const pre = make("pre", { textContent: text, tabIndex: 0 });
  const button = make("button", { type: "button", textContent: "Copy" });
  button.setAttribute("aria-label", `Copy ${title}`);
  button.addEventListener("click", () => copy(pre));
  return make("div", { className: "code" }, make("h4", { textContent: title }), button, pre);
}

function programs(name) {
  const url = new URL(path("predict"), document.baseURI).href;
  const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const file = JSON.stringify(name);
  const python = key ? `, {"X-API-Key": os.environ["API_KEY"]}` : "";
  const script = key ? `, headers: { "X-API-Key": process.env.API_KEY }` : "";
  return {
    curl: `curl ${key ? '-H "X-API-Key: $API_KEY" ' : ""}--data-binary ${shell(`@${name}`)} ${shell(url)}`,
    Python: `import json
${key ? "import os\n" : ""}import urllib.request
from pathlib import Path

image = Path(${file}).read_bytes()
request = urllib.request.Request("${url}", image${python})
with urllib.request.urlopen(request) as response:
    best = json.load(response)["predictions"][0]
print(best["label"], best["probability"])`,
    JavaScript: `import { readFile } from "node:fs/promises";

const body = await readFile(${file});
const response = await fetch("${url}", { method: "POST", body${script} });
if (!response.ok) throw new Error((await response.json()).detail);
const [best] = (await response.json()).predictions;
console.log(best.label, best.probability);`,
  };
}

function usage(name, address) {
  const save = make("a", { href: address, download: name, textContent: `Save the image as ${name}` });
  return make(
    "details",
    {},
    make("summary", { textContent: "Use it from code" }),
    make("p", { className: "small" }, save, key ? ", and put your key into API_KEY." : "."),
    ...Object.entries(programs(name)).map(([title, text]) => code(title, text)),
  );
}

function problem({ title, detail }) {
  return make("p", { className: "problem" }, make("b", { textContent: title }), `: ${detail}`);
}

// ---- the map of why ----

// The part of an image that the model sees, in percent of its sides.
function seen(image, card) {
  const { height, width, resize } = card?.input ?? {};
  if (!resize || resize === "stretch") return [0, 0, 100, 100];
  const share = Number(resize.split("-")[1] ?? 1);
  const ratio = width / height / (image.naturalWidth / image.naturalHeight);
  const [across, down] = [100 * share * Math.min(1, ratio), 100 * share * Math.min(1, 1 / ratio)];
  return [(100 - across) / 2, (100 - down) / 2, across, down];
}

// Orange where the image speaks for the label, blue where it speaks against it.
function draw(canvas, { height, width, values }) {
  const all = values.flat();
  const most = all.reduce((found, value) => Math.max(found, Math.abs(value)), 1e-12);
  const pixels = new ImageData(width, height);
  all.forEach((value, place) =>
    pixels.data.set([...(value > 0 ? [255, 120, 0] : [0, 70, 255]), (255 * Math.abs(value)) / most], 4 * place),
  );
  Object.assign(canvas, { height, width }).getContext("2d").putImageData(pixels, 0, 0);
}

// ---- an image and its answer ----

class Result {
  constructor(image, name) {
    this.image = image;
    this.name = name;
    this.address = URL.createObjectURL(image);
    this.picture = make("img", { alt: name, src: this.address });
    this.canvas = make("canvas", { hidden: true });
    this.figure = make("figure", {}, this.picture, this.canvas);
    this.body = make("div", {}, make("p", { textContent: "…" }));
    this.element = make("article", {}, this.figure, make("h3", { textContent: name }), this.body);
    this.picture.addEventListener("load", () => {
      const { naturalWidth, naturalHeight } = this.picture;
      this.figure.style.setProperty("--ratio", naturalWidth / naturalHeight);
    });
    // The service reads more formats than a browser does.
    this.picture.addEventListener("error", () => (this.figure.hidden = true));
    results.add(this);
  }

  // A sentence that says what came of it.
  async classify() {
    this.refused = null;
    try {
      const began = performance.now();
      this.asked = chosen;
      const answer = await ask(path("predict"), this.image);
      const spent = performance.now() - began;
      this.model = answer.model;
      this.card = await cardOf(answer.model, this.asked);
      this.show(answer, spent);
      const [{ label, probability }] = answer.predictions;
      return `${this.name}: ${label}, ${percent(probability)}${answer.unfamiliar ? ", but unfamiliar" : ""}`;
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.refuse(error);
      return `${this.name}: ${error.title}`;
    }
  }

  show(answer, milliseconds) {
    const [best] = answer.predictions;
    const choose = explains && !this.figure.hidden ? (label, button) => this.explain(label, button) : null;
    const said = answer.unfamiliar ? strangeness(answer) : meaning(best.probability, this.card);
    const about = `Answered in ${Math.round(milliseconds)} ms by ${answer.model.name} ${answer.model.version}`;
    this.why = make("div", { className: "why" });
    if (choose) this.why.append(make("p", { className: "small", textContent: "Choose a label to see why." }));
    const sentence = make("p", { className: answer.unfamiliar ? "unfamiliar" : "small", textContent: said });
    const raw = make("details", {}, make("summary", { textContent: "JSON" }));
    raw.append(code("JSON of this answer", JSON.stringify(answer, null, 2)));
    this.body.replaceChildren(
      make("p", { className: "best", textContent: `${best.label}, ${percent(best.probability)}` }),
      ...(said ? [sentence] : []),
      ...bars(answer.predictions, choose),
      this.why,
      make("p", { className: "small", textContent: about }),
      usage(this.name, this.address),
      raw,
    );
  }

  refuse(error) {
    this.refused = error;
    const again = make("button", { type: "button", textContent: "Try again" });
    again.addEventListener("click", () => classifyAll([this]));
    this.body.replaceChildren(problem(error), again);
  }

  async explain(label, button) {
    const pressed = button.getAttribute("aria-pressed") === "true";
    for (const other of this.body.querySelectorAll("[aria-pressed]")) other.setAttribute("aria-pressed", "false");
    this.canvas.hidden = true;
    this.why.replaceChildren();
    this.wanted = pressed ? null : label;
    if (pressed) return;
    button.setAttribute("aria-pressed", "true");
    say(`Looking for what speaks for ${label}…`);
    try {
      const { model, importance } = await ask(path("explain", this.asked, { label }), this.image);
      if (model.version !== this.model.version)
        throw new Refusal(0, "Another model answers by now", "Ask about this image again, then for the map.");
      if (this.wanted === label) this.lay(label, importance);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      if (this.wanted === label) this.why.replaceChildren(problem(error));
      say(error.title);
    }
  }

  lay(label, importance) {
    draw(this.canvas, importance);
    const [left, top, width, height] = seen(this.picture, this.card).map((part) => `${part}%`);
    const slider = make("input", { type: "range", min: 0, max: 100, value: 70 });
    const fade = () => (this.canvas.style.opacity = slider.value / 100);
    Object.assign(this.canvas.style, { left, top, width, height });
    slider.addEventListener("input", fade);
    fade();
    this.canvas.hidden = false;
    const words = `Why ${label}? Orange speaks for it, blue against it.`;
    this.why.replaceChildren(make("label", { className: "small" }, words, slider));
    say(`The map of why ${label} lies over ${this.name}.`);
  }
}

async function classifyAll(some) {
  const waiting = [...some];
  const said = [];
  say(waiting.length > 1 ? `Asking about ${waiting.length} images…` : "Asking…");
  const work = async () => {
    for (let one = waiting.shift(); one; one = waiting.shift()) {
      if (results.has(one)) said.push(await one.classify());
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  if (!some.some((one) => results.has(one))) return; // cleared meanwhile
  const refused = some.filter((one) => one.refused).length;
  say(said.length > SHOWN ? `${said.length} images, ${refused} without an answer.` : `${said.join(". ")}.`);
}

// ---- where images come from ----

function nameOf(image, source) {
  const kind = image.type.split("/")[1] ?? "bin";
  return `${source}-${++counted}.${kind === "jpeg" ? "jpg" : kind.split("+")[0]}`;
}

// Images with names, as [image, name].
function add(named) {
  if (!named.length) return;
  const some = named.map(([image, name]) => new Result(image, name));
  $("results").prepend(...some.map((one) => one.element));
  $("answers").hidden = $("clear").hidden = false;
  classifyAll(some);
}

const addFiles = (files) => add([...files].map((file) => [file, file.name]));

$("choose").addEventListener("click", () => $("files").click());
$("files").addEventListener("change", ({ target }) => {
  addFiles(target.files);
  target.value = ""; // the same file may be chosen again
});

$("clear").addEventListener("click", () => {
  for (const { address } of results) URL.revokeObjectURL(address);
  results.clear();
  $("results").replaceChildren();
  $("answers").hidden = $("clear").hidden = true;
  say("");
  $("choose").focus();
});

const carriesFiles = (event) => event.dataTransfer.types.includes("Files");
document.addEventListener("dragover", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  document.body.classList.remove("dropping");
  addFiles(event.dataTransfer.files);
});

document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  if (files.length) {
    event.preventDefault();
    // What was copied out of a program is always called image.png.
    add(files.map((file) => [file, file.name === "image.png" ? nameOf(file, "pasted") : file.name]));
  } else if (!(event.target instanceof HTMLInputElement)) {
    say("There is no image in the clipboard.");
  }
});

$("paste").hidden = !navigator.clipboard?.read;
$("paste").addEventListener("click", async () => {
  try {
    const items = await navigator.clipboard.read();
    const kinds = items.map((item) => [item, item.types.find((type) => type.startsWith("image/"))]);
    const images = await Promise.all(kinds.filter(([, kind]) => kind).map(([item, kind]) => item.getType(kind)));
    if (images.length) add(images.map((image) => [image, nameOf(image, "pasted")]));
    else say("There is no image in the clipboard.");
  } catch {
    say("The browser does not let this page read the clipboard.");
  }
});

$("key").addEventListener("submit", (event) => {
  event.preventDefault();
  key = $("secret").value;
  $("secret").value = "";
  $("key").hidden = true;
  cards.clear();
  begin();
  const refused = [...results].filter((one) => one.refused?.status === 401);
  if (refused.length) classifyAll(refused);
  else say("The key is used from now on.");
});

$("models").addEventListener("change", () => {
  chosen = JSON.parse($("models").value);
  introduce();
  say("The next images are asked of this one.");
});

// ---- webcam: one image in flight ----

let stream = null;

function frame() {
  const { videoWidth: width, videoHeight: height } = $("video");
  const canvas = make("canvas", { width, height });
  canvas.getContext("2d").drawImage($("video"), 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
}

async function watch(own) {
  while (stream === own) {
    const next = new Promise((resolve) => setTimeout(resolve, FRAME_MILLISECONDS));
    try {
      const answer = await ask(path("predict"), await frame());
      if (stream === own) live(answer);
    } catch (error) {
      stop();
      if (!(error instanceof Refusal)) throw error;
      say(`The webcam has stopped. ${error.title}: ${error.detail}`);
    }
    await next;
  }
}

function live(answer) {
  const strange = make("p", { className: "unfamiliar", textContent: strangeness(answer) });
  const [shown] = bars(answer.predictions.slice(0, SHOWN), null);
  $("live").replaceChildren(...(answer.unfamiliar ? [strange] : []), shown);
}

async function start() {
  if (!navigator.mediaDevices) {
    say("The webcam needs a page from https or from localhost.");
    return;
  }
  $("start").disabled = true;
  let own;
  try {
    own = stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    if (document.hidden) return stop();
    $("video").srcObject = own;
    $("webcam").hidden = false;
    await $("video").play();
  } catch (error) {
    if (own && stream !== own) return; // stopped meanwhile
    stop();
    $("start").disabled = false;
    say(`There is no webcam to use: ${error.message}.`);
    return;
  }
  if (stream !== own) return;
  say("The webcam is on.");
  $("stop").focus();
  watch(own);
}

function stop() {
  if (!stream) return;
  for (const track of stream.getTracks()) track.stop();
  stream = $("video").srcObject = null;
  $("webcam").hidden = true;
  $("start").disabled = false;
  $("live").replaceChildren();
}

$("start").addEventListener("click", start);
$("stop").addEventListener("click", () => {
  stop();
  say("The webcam is off.");
  $("start").focus();
});
$("keep").addEventListener("click", async () => {
  const image = await frame();
  add([[image, nameOf(image, "webcam")]]);
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden || !stream) return;
  stop();
  say("The webcam was stopped, because the page was hidden.");
});

begin();
