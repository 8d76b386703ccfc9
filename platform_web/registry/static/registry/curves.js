/* Learning curves of a run. Asks for data.json every two seconds until the run has ended. */
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const card = document.getElementById("curves");
  if (!card) return;
  const ARMS = ["local", "global", "tuned", "personal"];
  const CHARTS = { "chart-loss": "val_loss", "chart-accuracy": "val_accuracy" };
  const whose = document.getElementById("curve-of");
  const plots = {};
  let rounds = [];
  let chosen = ""; // "" is the cohort, else a site's name
  let shape = "";

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const figures = (row) => (chosen ? row.sites[chosen] : row.cohort) || {};
  const value = (row, arm, metric) => {
    const number = (figures(row)[arm] || {})[metric];
    return typeof number === "number" ? number : null;
  };

  function series(metric) {
    return ARMS.filter((arm) => rounds.some((row) => value(row, arm, metric) !== null));
  }
  function data(metric, arms) {
    return [rounds.map((row) => row.number), ...arms.map((arm) => rounds.map((row) => value(row, arm, metric)))];
  }
  function options(box, metric, arms) {
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 } };
    return {
      width: Math.max(box.clientWidth, 240),
      height: 240,
      legend: { live: true, markers: { fill: (_u, index) => (index ? colour(`--arm-${arms[index - 1]}`) : "transparent"), width: 0 } },
      cursor: { points: { size: 6 } },
      scales: { x: { time: false, range: (_u, low, high) => (low === high ? [low - 1, high + 1] : [low, high]) } },
      axes: [
        { ...axis, incrs: [1, 2, 5, 10, 20, 50, 100, 200], values: (_u, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? tick : "")) },
        { ...axis, size: 56 },
      ],
      series: [
        { label: card.dataset.round },
        ...arms.map((arm) => ({
          label: card.dataset[arm],
          stroke: colour(`--arm-${arm}`),
          width: arm === "personal" ? 3 : 2,
          dash: arm === "local" ? [6, 4] : undefined,
          spanGaps: true,
          points: { show: rounds.length < 40, size: 5, fill: colour(`--arm-${arm}`) },
          value: (_u, number) => (number === null || number === undefined ? "–" : number.toFixed(3)),
        })),
      ],
    };
  }
  function draw() {
    document.getElementById("no-curves").hidden = rounds.length > 0;
    const now = `${chosen}|${document.documentElement.dataset.theme}|` + Object.values(CHARTS).map((metric) => series(metric)).join("|");
    for (const [id, metric] of Object.entries(CHARTS)) {
      const box = document.getElementById(id);
      const arms = series(metric);
      if (plots[id] && now === shape) {
        plots[id].setData(data(metric, arms));
        continue;
      }
      if (plots[id]) plots[id].destroy();
      delete plots[id];
      box.replaceChildren();
      if (arms.length) plots[id] = new uPlot(options(box, metric, arms), data(metric, arms), box);
    }
    shape = now;
  }
  function offer() {
    const sites = [...new Set(rounds.flatMap((row) => Object.keys(row.sites).filter((site) => Object.keys(row.sites[site] || {}).length)))].sort();
    const wanted = ["", ...sites];
    if (whose.children.length === wanted.length) return;
    whose.replaceChildren(
      ...wanted.map((name) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = name || card.dataset.cohort;
        button.setAttribute("aria-pressed", String(name === chosen));
        button.addEventListener("click", () => {
          chosen = name;
          for (const other of whose.children) other.setAttribute("aria-pressed", String(other === button));
          draw();
        });
        return button;
      }),
    );
  }
  async function poll() {
    try {
      const response = await fetch(card.dataset.url, { headers: { Accept: "application/json" } });
      if (response.ok) {
        const answer = await response.json();
        rounds = answer.rounds;
        document.getElementById("run-digest").textContent = answer.run_digest || "–";
        offer();
        draw();
      }
    } catch {
      /* the portal restarts: the next question finds it again */
    }
    if (card.dataset.final !== "yes") setTimeout(poll, 2000);
  }
  addEventListener("resize", () => {
    for (const [id, plot] of Object.entries(plots)) plot.setSize({ width: Math.max(document.getElementById(id).clientWidth, 240), height: 240 });
  });
  document.addEventListener("consilium:theme", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { shape = ""; draw(); });
  poll();
});
