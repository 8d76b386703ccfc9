/* Behaviour every page shares. No inline script or style anywhere: the content security policy forbids both. */
"use strict";

(function () {
  const root = document.documentElement;
  const stored = localStorage.getItem("consilium-theme");
  if (stored === "dark" || stored === "light") root.dataset.theme = stored;

  function toggleTheme() {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("consilium-theme", root.dataset.theme);
    document.dispatchEvent(new CustomEvent("consilium:theme"));
  }

  async function copyText(button) {
    const field = document.getElementById(button.dataset.copy);
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
      button.textContent = button.dataset.done;
    } catch {
      button.textContent = button.dataset.manual;
    }
  }

  document.addEventListener("click", (event) => {
    const target = event.target.closest("[data-theme-switch], [data-copy], [data-nav]");
    if (!target) return;
    if (target.hasAttribute("data-theme-switch")) toggleTheme();
    if (target.hasAttribute("data-copy")) copyText(target);
    if (target.hasAttribute("data-nav")) {
      const open = document.body.classList.toggle("nav-open");
      target.setAttribute("aria-expanded", String(open));
    }
  });

  // one click, one request: a second click on a slow answer must not post twice
  document.addEventListener("submit", (event) => {
    if (event.defaultPrevented) return;
    const question = event.target.dataset.confirm;
    if (question && !window.confirm(question)) {
      event.preventDefault();
      return;
    }
    if (event.target.method === "post" && !event.target.hasAttribute("data-again")) {
      for (const button of event.target.querySelectorAll("button")) setTimeout(() => (button.disabled = true), 0);
    }
  });
  addEventListener("pageshow", (event) => {
    if (event.persisted) for (const button of document.querySelectorAll("form button")) button.disabled = false;
  });

  // selects that open a part of a form: data-shows="name" on the select, data-shown-for="value …" on the parts
  function showParts(select) {
    for (const part of document.querySelectorAll(`[data-part="${select.dataset.shows}"]`)) {
      const shown = part.dataset.shownFor.split(" ").includes(select.value);
      part.hidden = !shown;
      for (const input of part.querySelectorAll("input, select, textarea")) input.disabled = !shown;
    }
  }
  // a sentence for exactly so many ticks: data-part-count="name of the boxes", data-shown-at="how many"
  function countTicks() {
    for (const part of document.querySelectorAll("[data-part-count]")) {
      const ticked = document.querySelectorAll(`input[name="${part.dataset.partCount}"]:checked`).length;
      part.hidden = ticked !== Number(part.dataset.shownAt);
    }
  }
  document.addEventListener("change", countTicks);

  document.addEventListener("DOMContentLoaded", () => {
    countTicks();
    for (const select of document.querySelectorAll("[data-shows]")) {
      showParts(select);
      select.addEventListener("change", () => showParts(select));
    }
  });
})();
