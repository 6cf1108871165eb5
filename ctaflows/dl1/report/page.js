"use strict";
(() => {
  const table = document.getElementById("files");
  if (!table) return;
  document.documentElement.classList.remove("no-script");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...body.rows].map((element, place) => ({
    element,
    place,
    verdict: element.dataset.verdict,
    text: element.textContent.toLowerCase(),
    values: [...element.cells].map((cell) => {
      const value = cell.dataset.v ?? cell.textContent;
      return cell.classList.contains("n") || cell.dataset.v !== undefined
        ? (value === "" ? null : Number(value))
        : value;
    }),
  }));

  function compared(a, b) {
    return typeof a === "number" ? a - b : a < b ? -1 : a > b ? 1 : 0;
  }

  // empty cells come last in either direction; equal ones keep the night's order
  function sort(column, isDown) {
    const sorted = [...rows].sort((a, b) => {
      const [x, y] = [a.values[column], b.values[column]];
      if (x === null || y === null) return (x === null) - (y === null) || a.place - b.place;
      return (isDown ? compared(y, x) : compared(x, y)) || a.place - b.place;
    });
    body.append(...sorted.map((row) => row.element));
    heads.forEach((head, i) => {
      if (i === column) head.setAttribute("aria-sort", isDown ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  }

  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () =>
      sort(column, head.getAttribute("aria-sort") === "ascending"));
  });

  const words = document.getElementById("words");
  const verdict = document.getElementById("verdict");
  const shown = document.getElementById("shown");

  function filter() {
    const sought = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let n = 0;
    for (const row of rows) {
      const fits = (verdict.value === "" || verdict.value === row.verdict ||
        (verdict.value === "not ok" && row.verdict !== "ok")) &&
        sought.every((word) => row.text.includes(word));
      row.element.hidden = !fits;
      n += fits;
    }
    shown.value = `${n.toLocaleString("en")} of ${rows.length.toLocaleString("en")} files`;
  }

  words.addEventListener("input", filter);
  verdict.addEventListener("change", filter);
  document.getElementById("filter").addEventListener("submit", (event) => event.preventDefault());
  filter(); // after "back" the browser restores what was typed
})();
