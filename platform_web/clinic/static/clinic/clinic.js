/* The clinic page. The case goes from this browser straight to the institution's own inference address;
   the portal is asked for a signed ticket only. */
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("ask");
  if (!form) return;
  const words = JSON.parse(document.getElementById("clinic-words").textContent);
  const kind = form.dataset.kind;
  const problem = document.getElementById("problem");
  const answerCard = document.getElementById("answer");
  const button = document.getElementById("ask-button");
  let csvRecords = null;

  class Sentence extends Error {}
  const say = (text, bad) => {
    problem.hidden = !text;
    problem.textContent = text || "";
    problem.className = bad ? "note bad" : "note";
  };
  const featureInputs = () => [...form.querySelectorAll("[data-feature]")];

  // ---- tables
  function splitLine(line, comma) {
    const cells = [];
    let cell = "", quoted = false;
    for (let i = 0; i < line.length; i += 1) {
      const c = line[i];
      if (quoted && c === '"' && line[i + 1] === '"') { cell += '"'; i += 1; }
      else if (c === '"') quoted = !quoted;
      else if (c === comma && !quoted) { cells.push(cell.trim()); cell = ""; }
      else cell += c;
    }
    cells.push(cell.trim());
    return cells;
  }
  function readCsv(text) {
    const lines = text.replace(/^\uFEFF/, "").split(/\r?\n/).filter((line) => line.trim());
    if (lines.length < 2) throw new Sentence(words.csv_bad + "…");
    if (lines.length > 201) throw new Sentence(words.too_many);
    const comma = [",", ";", "\t"].find((mark) => lines[0].includes(mark)) || ",";
    const header = splitLine(lines[0], comma);
    return lines.slice(1).map((line, number) => {
      const cells = splitLine(line, comma);
      const record = {};
      for (const input of featureInputs()) {
        const name = input.dataset.feature;
        const text = cells[header.indexOf(name)] ?? "";
        const value = Number(text);
        if (text === "" || !Number.isFinite(value)) throw new Sentence(`${words.csv_bad}${name} (${number + 1})`);
        record[name] = value;
      }
      return record;
    });
  }
  function takeCsv(text) {
    csvRecords = null;
    if (!text.trim()) return;
    try {
      csvRecords = readCsv(text);
      for (const input of featureInputs()) input.value = csvRecords[0][input.dataset.feature];
      say("");
    } catch (error) {
      if (!(error instanceof Sentence)) throw error;
      say(error.message, true);
    }
  }
  function typedRecord() {
    const record = {};
    for (const input of featureInputs()) {
      if (input.value.trim() === "" || !Number.isFinite(Number(input.value))) {
        input.setAttribute("aria-invalid", "true");
        input.focus();
        throw new Sentence(words.empty);
      }
      input.removeAttribute("aria-invalid");
      record[input.dataset.feature] = Number(input.value);
    }
    return record;
  }

  // ---- what is sent
  function content() {
    if (kind === "image") {
      const file = document.getElementById("case-file").files[0];
      if (!file) throw new Sentence(words.empty);
      if (file.size > 10 * 1024 * 1024) throw new Sentence(words.too_large);
      const body = new FormData();
      body.append("file", file);
      return { body, headers: {} };
    }
    let records;
    if (kind === "text") {
      const text = document.getElementById("case-text").value.trim();
      if (!text) throw new Sentence(words.empty);
      records = [text];
    } else {
      records = csvRecords && csvRecords.length > 1 ? csvRecords : [typedRecord()];
    }
    return { body: JSON.stringify({ records }), headers: { "Content-Type": "application/json" } };
  }

  async function getTicket() {
    const body = new FormData();
    body.append("promotion", form.dataset.promotion);
    const token = form.querySelector("[name=csrfmiddlewaretoken]").value;
    let response;
    try {
      response = await fetch(form.dataset.ticketUrl, { method: "POST", body, headers: { "X-CSRFToken": token } });
    } catch {
      throw new Sentence(words.no_ticket);
    }
    const isJson = (response.headers.get("content-type") || "").includes("json");
    const answer = isJson ? await response.json() : {};
    if (!response.ok || !answer.ticket) throw new Sentence(answer.detail || words.no_ticket);
    return answer;
  }

  async function ask() {
    const { body, headers } = content();
    const ticket = await getTicket();
    let response;
    try {
      response = await fetch(`${ticket.url}/v1/predict`, {
        method: "POST", body, credentials: "omit", referrerPolicy: "no-referrer",
        headers: { ...headers, Authorization: `Ticket ${ticket.ticket}` },
      });
    } catch {
      throw new Sentence(words.unreachable);
    }
    let answer = {};
    try { answer = await response.json(); } catch { /* not JSON: the status decides below */ }
    if (!response.ok) {
      const told = { 401: words.refused, 403: words.refused, 404: words.not_ready, 413: words.too_large, 503: words.not_ready };
      const detail = answer.detail || answer.title || "";
      throw new Sentence([told[response.status] || words.failed, detail].filter(Boolean).join(" "));
    }
    if (answer.site !== form.dataset.site || answer.personal_sha256 !== form.dataset.personal) {
      throw new Sentence(words.other_model);
    }
    return answer;
  }

  // ---- what is shown
  function el(tag, className, text) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  }
  const percent = (value) => `${(value * 100).toFixed(1)} %`;
  function bars(probabilities) {
    const box = el("div", "answer");
    for (const [label, value] of Object.entries(probabilities).sort((a, b) => b[1] - a[1])) {
      const row = el("div", "bar");
      const bar = el("progress");
      bar.max = 1;
      bar.value = value;
      bar.setAttribute("aria-label", label);
      row.append(el("span", "", label), bar, el("span", "", percent(value)));
      box.append(row);
    }
    return box;
  }
  function manyCases(predictions) {
    const table = el("table");
    const head = table.createTHead().insertRow();
    for (const title of [words.case, words.answer, words.probability]) head.append(el("th", "", title));
    const rows = table.createTBody();
    predictions.forEach((prediction, number) => {
      const row = rows.insertRow();
      row.append(el("td", "", String(number + 1)), el("td", "best", prediction.label), el("td", "", percent(prediction.probabilities[prediction.label])));
    });
    const box = el("div", "scroll");
    box.append(table);
    return box;
  }
  function show(answer) {
    const result = document.getElementById("result");
    const first = answer.predictions[0];
    result.replaceChildren();
    if (answer.predictions.length > 1) result.append(manyCases(answer.predictions));
    else result.append(el("div", "answer-label", first.label), bars(first.probabilities));
    document.getElementById("result-version").textContent = answer.version_label;
    document.getElementById("result-arm").textContent = words.arms[answer.arm] || answer.arm;
    document.getElementById("result-digest").textContent = answer.personal_sha256.slice(0, 12);
    document.getElementById("result-teaching").hidden = !(answer.teaching || form.dataset.teaching === "yes");
    answerCard.hidden = false;
    answerCard.scrollIntoView({ block: "nearest", behavior: "smooth" });
  }

  // ---- events
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    answerCard.hidden = true;
    button.disabled = true;
    say(words.asking);
    try {
      show(await ask());
      say("");
    } catch (error) {
      if (!(error instanceof Sentence)) throw error;
      say(error.message, true);
    } finally {
      button.disabled = false;
    }
  });
  for (const input of featureInputs()) input.addEventListener("input", () => (csvRecords = null));
  document.getElementById("csv-text")?.addEventListener("input", (event) => takeCsv(event.target.value));
  document.getElementById("csv-file")?.addEventListener("change", async (event) => {
    const file = event.target.files[0];
    if (!file) return;
    if (file.size > 1024 * 1024) return say(words.too_many, true);
    const text = await file.text();
    document.getElementById("csv-text").value = text;
    takeCsv(text);
  });
  document.getElementById("case-file")?.addEventListener("change", (event) => {
    const preview = document.getElementById("preview");
    const file = event.target.files[0];
    if (preview.src) URL.revokeObjectURL(preview.src);
    preview.hidden = !file;
    if (file && !file.type.startsWith("image/")) {
      preview.hidden = true;
      return say(words.image_only, true);
    }
    if (file) preview.src = URL.createObjectURL(file);
    say("");
  });
});
