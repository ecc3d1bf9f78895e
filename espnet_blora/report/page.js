"use strict";
// Click on a column's head: sort by it; numbers by their value, what has none comes last.
for (const table of document.querySelectorAll("table")) {
  const heads = table.tHead.rows[0].cells;
  for (const head of heads) {
    const sort = () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      const at = head.cellIndex;
      const key = (row) => row.cells[at].dataset.sort;
      const rows = [...table.tBodies[0].rows];
      const numbers = rows.some((row) => key(row) !== "");
      rows.sort((a, b) => {
        if (!numbers) return (up ? 1 : -1) * a.cells[at].textContent.localeCompare(b.cells[at].textContent);
        if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
        return (up ? 1 : -1) * (Number(key(a)) - Number(key(b)));
      });
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      table.tBodies[0].append(...rows);
    };
    head.tabIndex = 0;
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => event.key === "Enter" && sort());
  }
}
addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("details")) fold.open = true;
});
