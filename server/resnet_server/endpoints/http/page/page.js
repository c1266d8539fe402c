"use strict";

const TOP_K = 5;
const $ = (id) => document.getElementById(id);
const made = (tag, text = "", className = "") => {
  const element = document.createElement(tag);
  element.textContent = text;
  if (className) element.className = className;
  return element;
};
const percent = (share) => `${(100 * share).toFixed(1)} %`;

const REASONS = {
  deepest: "the most accurate network was in time",
  slack: "a deeper network would have missed the deadline",
  backlog: "a deeper network would have made others miss theirs",
  load: "more comes than a deeper network can answer",
  floor: "at least this accuracy was asked for",
  limit: "at most this depth was asked for",
};

let picture = null; // { blob, name }
let run = 0; // answers of an earlier picture that come late are dropped

const TOKEN = "token"; // in this tab's memory, until it is closed
const access = () => (sessionStorage.getItem(TOKEN) ? { authorization: `Bearer ${sessionStorage.getItem(TOKEN)}` } : {});

async function networks() {
  const response = await fetch("/models", { headers: access() });
  const models = await response.json();
  $("access").hidden = response.status !== 401 && response.status !== 403;
  if (!response.ok) throw new Error(models.error);
  const ready = models.filter((model) => model.ready).sort((a, b) => (a.depth ?? 0) - (b.depth ?? 0));
  ready.forEach((model, index) => $("networks").append(choice(model, index === ready.length - 1)));
  if (!ready.length) $("status").textContent = "No network is ready.";
}

function choice(model, chosen) {
  const item = made("li");
  const label = made("label");
  const box = made("input");
  box.type = "checkbox";
  box.checked = chosen;
  box.model = model;
  box.addEventListener("change", classify);
  const accuracy = model.accuracy == null ? "accuracy unknown" : `${percent(model.accuracy)} right`;
  label.append(box, made("span", `${model.name} · ${model.precision}`), made("small", accuracy));
  item.append(label);
  return item;
}

const chosen = () => [...document.querySelectorAll("#networks input:checked")].map((box) => box.model);

function show(blob, name) {
  picture = { blob, name };
  const preview = $("preview");
  URL.revokeObjectURL(preview.src);
  preview.onload = () => preview.classList.toggle("small", preview.naturalWidth <= 64);
  preview.src = URL.createObjectURL(blob);
  preview.alt = `The chosen picture, ${name}`;
  preview.hidden = false;
  $("hint").hidden = true;
  classify();
}

async function classify() {
  const models = chosen();
  calls(models[0]);
  if (!picture) return;
  const mine = ++run;
  $("status").textContent = models.length ? "Looking …" : "Choose at least one network.";
  const answers = await Promise.all(models.map((model) => ask(model)));
  if (mine !== run) return;
  $("answers").replaceChildren(...answers.map(card));
  const first = answers.find((answer) => answer.labels);
  if (first) $("status").textContent = `${first.model.name} says: ${first.labels[0].label}, ${percent(first.labels[0].score)}.`;
  else if (answers.length) $("status").textContent = "No answer.";
}

async function ask(model) {
  const query = new URLSearchParams({ model: model.name, version: model.version, precision: model.precision, top_k: topK(model), details: 1 });
  const started = performance.now();
  try {
    const response = await fetch(`/classify?${query}`, { method: "POST", headers: access(), body: picture.blob });
    const answer = await response.json();
    if (!response.ok) return { model, error: answer.error };
    return { model, ...answer, model, total: performance.now() - started };
  } catch (error) {
    return { model, error: `The server cannot be reached (${error.message}).` };
  }
}

const topK = (model) => Math.min(TOP_K, model.classes || TOP_K);

function card(answer) {
  const article = made("article", "", "answer");
  article.append(made("h3", `${answer.model.name} · ${answer.model.precision}`));
  if (answer.error) {
    article.append(made("p", answer.error, "error"));
    return article;
  }
  const list = made("ol");
  list.style.padding = 0;
  list.style.listStyle = "none";
  answer.labels.forEach(({ label, score }) => list.append(row(label, score)));
  const { decode, queue, compute } = answer.milliseconds;
  const times = `${answer.total.toFixed(0)} ms in all: ${decode.toFixed(1)} decoding, ${queue.toFixed(1)} waiting, ${compute.toFixed(1)} computing.`;
  const certificate = answer.certificate ? `Certificate ${answer.certificate.slice(0, 12)}` : "UNCERTIFIED";
  article.append(list);
  if (answer.network) article.append(made("p", `Answered by ${answer.network} · ${answer.precision}, ${percent(answer.accuracy)} right: ${REASONS[answer.reason] ?? answer.reason}.`, "facts"));
  article.append(made("p", times, "facts"), made("p", `${certificate}, ${answer.provider}`, "facts"));
  return article;
}

function row(label, score) {
  const item = made("li");
  const track = made("span", "", "track");
  const fill = made("span", "", "fill");
  fill.style.width = `${100 * score}%`;
  track.append(fill);
  track.setAttribute("aria-hidden", "true");
  item.append(made("span", label), made("span", percent(score)), track);
  return item;
}

function calls(model) {
  const name = model ? model.name : "";
  $("curl").textContent = `curl --data-binary @picture.jpg \\\n  '${location.origin}/classify?model=${name}'`;
  $("python").textContent = `import httpx\n\nwith open("picture.jpg", "rb") as file:\n    answer = httpx.post(\n        "${location.origin}/classify?model=${name}",\n        content=file.read(),\n    )\nprint(answer.json())`;
}

function examples() {
  for (const name of ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]) {
    const item = made("li");
    const button = made("button");
    const image = made("img");
    image.src = `/page/examples/${name}.png`;
    image.alt = `Example: ${name}`;
    button.type = "button";
    button.append(image);
    button.addEventListener("click", async () => show(await (await fetch(image.src)).blob(), `${name}.png`));
    item.append(button);
    $("examples").append(item);
  }
}

function listen() {
  const take = (files) => files.length && show(files[0], files[0].name || "pasted");
  $("file").addEventListener("change", (event) => take(event.target.files));
  document.addEventListener("paste", (event) => take(event.clipboardData.files));
  const drop = $("drop");
  for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.remove("over"); });
  drop.addEventListener("drop", (event) => take(event.dataTransfer.files));
}

function begin() {
  networks().then(() => calls(chosen()[0]), (error) => { $("status").textContent = `The list of networks cannot be read (${error.message}).`; });
}

$("access").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, $("token").value.trim());
  $("status").textContent = "Choose a picture to begin.";
  begin();
});
examples();
listen();
begin();
