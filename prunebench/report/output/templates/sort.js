// Sorting of tables by a column, for every page. Whether there is such a column is returned.
"use strict";
const sortTable = (table, column, direction) => {
  const heading = table.tHead.rows[0].cells[column];
  if (!heading) return false;
  const numeric = heading.classList.contains("number");
  const sign = direction === "descending" ? -1 : 1;
  const key = ({ cells: { [column]: cell } }) => numeric ? Number(cell.dataset.sort || NaN) : cell.textContent.trim();
  const order = ([x], [y]) => {
    if (!numeric) return sign * x.localeCompare(y, "en", { numeric: true });
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
    return x === y ? 0 : sign * (x < y ? -1 : 1);
  };
  for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", direction);
  table.tBodies[0].append(...[...table.tBodies[0].rows].map((row) => [key(row), row]).sort(order).map(([, row]) => row));
  return true;
};
// Each button in a heading sorts by its column, and back when it is pressed again.
const sortByHeadings = (sort) => {
  for (const button of document.querySelectorAll("th button")) {
    button.addEventListener("click", () => {
      const heading = button.closest("th");
      sort(heading.closest("table"), heading.cellIndex, heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending");
    });
  }
};
