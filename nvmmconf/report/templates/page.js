// SPDX-License-Identifier: BSD-2-Clause
// Comforts only: without this script every page shows the same facts.
"use strict";
(() => {
  for (const button of document.querySelectorAll("button[data-copy]")) {
    const source = document.getElementById(button.dataset.copy);
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(source);
        button.textContent = "Selected";
      }
    });
  }

  // On paper nothing can be unfolded.
  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });

  // A column's head sorts by it: numbers by their value, the rest as text.
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const rows = [...body.rows].sort((one, other) => {
          const [a, b] = [value(one, column), value(other, column)];
          const order = typeof a === "number" && typeof b === "number"
            ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
          return up ? order : -order;
        });
        body.append(...rows);
      });
    });
  }

  const form = document.querySelector("form.filter");
  if (!form) return;
  const input = document.getElementById("filter");
  const onlyBad = document.getElementById("only-bad");
  const count = document.getElementById("filter-count");
  const tables = [...document.querySelectorAll("table.cases")];
  const targets = tables.length
    ? [...tables[0].tHead.querySelectorAll("code")].map((head) => head.textContent) : [];
  let groups = null;
  // What a row can be found by: its text, and each cell as `target:verdict`.
  const read = () => tables.map((table) => ({
    box: table.closest("details") ?? table.closest("section"),
    rows: [...table.tBodies[0].rows].map((row) => ({
      row,
      text: [row.cells[0].textContent, row.dataset.find,
        ...[...row.cells].slice(1).map((cell, i) => `${targets[i]}:${cell.textContent.trim()}`),
      ].join(" ").toLowerCase(),
    })),
  }));

  const apply = () => {
    const wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    if (onlyBad.checked) wanted.push("is:bad");
    if (!wanted.length && !groups) return;
    groups ??= read();
    const fits = (text) => wanted.every((word) =>
      word.length > 1 && word[0] === "-" ? !text.includes(word.slice(1)) : text.includes(word));
    let shown = 0;
    let total = 0;
    for (const { box, rows } of groups) {
      let here = 0;
      for (const { row, text } of rows) {
        row.hidden = !fits(text);
        here += row.hidden ? 0 : 1;
      }
      box.hidden = here === 0;
      if (box.tagName === "DETAILS") box.open = wanted.length > 0 && here > 0;
      shown += here;
      total += rows.length;
    }
    count.textContent = wanted.length ? `${shown} of ${total} cases` : "";
  };

  // The address keeps the filter, so that a link to this view can be passed on.
  const remember = () => {
    const query = new URLSearchParams();
    if (input.value) query.set("q", input.value);
    if (onlyBad.checked) query.set("bad", "1");
    const search = query.size ? `?${query}` : location.pathname;
    try { history.replaceState(null, "", search); } catch { /* some browsers refuse on file: */ }
  };
  const changed = () => { apply(); remember(); };

  const query = new URLSearchParams(location.search);
  input.value = query.get("q") ?? "";
  onlyBad.checked = query.has("bad");
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  input.addEventListener("input", changed);
  onlyBad.addEventListener("change", changed);
  apply();

  // A link to a row shows the row, whatever the filter says, and unfolds its area.
  const reveal = () => {
    const row = location.hash && document.getElementById(location.hash.slice(1));
    if (!row) return;
    if (row.hidden) {
      input.value = "";
      onlyBad.checked = false;
      apply();
    }
    const box = row.closest("details");
    if (box && !box.open) box.open = true;
    row.scrollIntoView();
  };
  window.addEventListener("hashchange", reveal);
  reveal();

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, textarea, select")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (event.key === "/") {
      event.preventDefault();
      input.focus();
    } else if (event.key === "n" || event.key === "p") {
      const links = [...document.querySelectorAll('tr[data-find~="is:bad"]:not([hidden]) a.name')];
      const at = links.indexOf(document.activeElement);
      const step = event.key === "n" ? 1 : -1;
      const next = links[at < 0 ? (step > 0 ? 0 : links.length - 1) : at + step];
      if (next) next.focus();
    }
  });
})();
