// SPDX-License-Identifier: BSD-2-Clause
// The filter of the table of cases: without this script the whole table is there.
"use strict";
(() => {
  const form = document.querySelector("form.filter");
  if (form) {
    const input = document.getElementById("filter");
    const onlyBad = document.getElementById("only-bad");
    const count = document.getElementById("filter-count");
    const targets = [...document.querySelectorAll("table.cases thead code")].map(
      (head) => head.textContent);
    // What a row can be found by: its text, and each cell as `target:verdict`.
    const words = (row) => [row.textContent, row.dataset.find,
      ...[...row.querySelectorAll("td")].map((cell, i) => `${targets[i]}:${cell.textContent}`),
    ].join(" ").toLowerCase();
    const groups = [...document.querySelectorAll("table.cases tbody")].map((body) => ({
      head: body.querySelector("tr.group"),
      rows: [...body.querySelectorAll("tr[data-find]")].map((row) => ({
        row,
        text: words(row),
      })),
    }));

    const apply = () => {
      const wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      if (onlyBad.checked) wanted.push("is:bad");
      const fits = (text) => wanted.every((word) =>
        word.length > 1 && word[0] === "-" ? !text.includes(word.slice(1)) : text.includes(word));
      let shown = 0;
      let total = 0;
      for (const group of groups) {
        let here = 0;
        for (const { row, text } of group.rows) {
          row.hidden = !fits(text);
          here += row.hidden ? 0 : 1;
        }
        group.head.hidden = here === 0;
        shown += here;
        total += group.rows.length;
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
    for (const link of document.querySelectorAll("a[data-filter]")) {
      link.addEventListener("click", () => {
        input.value = link.dataset.filter;
        onlyBad.checked = false;
        apply();
      });
    }
    apply();

    // A link to a row shows the row, whatever the filter says.
    const reveal = () => {
      const row = location.hash && document.getElementById(location.hash.slice(1));
      if (row && row.hidden) {
        input.value = "";
        onlyBad.checked = false;
        apply();
        row.scrollIntoView();
      }
    };
    window.addEventListener("hashchange", reveal);
    reveal();
  }
})();
