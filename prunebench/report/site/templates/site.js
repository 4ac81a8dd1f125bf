// What the leaderboard can be asked: filter, search, sort; the view is kept in the address.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const filters = document.getElementById("filters");
  const told = document.getElementById("told");
  const names = ["model", "sparsity", "protocol", "budget", "text"];
  const field = (name) => filters.querySelector(`[name=${name}]`);
  const boards = all(".board");

  // Read when first asked for: of ten thousand rows that takes a while.
  let known;
  const facts = () => known ??= boards.map((board) => {
    const table = board.querySelector("table");
    const headings = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
    const at = Object.fromEntries(["model", "sparsity", "budget"].map((name) => [name, headings.indexOf(name)]));
    const rows = [...table.tBodies[0].rows].map((row) => ({
      row,
      of: Object.fromEntries(Object.entries(at).map(([name, column]) => [name, row.cells[column].textContent.trim()])),
      words: row.textContent.toLowerCase(),
    }));
    return { board, rows };
  });

  function apply() {
    const view = Object.fromEntries(names.map((name) => [name, field(name).value]));
    const words = view.text.toLowerCase().split(/\s+/).filter(Boolean);
    const asked = names.some((name) => view[name].trim());
    let shown = 0;
    for (const { board, rows } of facts()) {
      let own = 0;
      const other = view.protocol && board.dataset.protocol !== view.protocol;
      for (const { row, of, words: text } of rows) {
        const fits = !other && ["model", "sparsity", "budget"].every((name) => !view[name] || of[name] === view[name])
          && words.every((word) => text.includes(word));
        row.hidden = !fits;
        own += fits;
      }
      board.hidden = own === 0;
      shown += own;
    }
    told.textContent = !asked ? "" : shown ? `${shown} rows` : "Nothing matches: change or reset the filters.";
    const parts = names.filter((name) => view[name].trim()).map((name) => `${name}=${encodeURIComponent(view[name])}`);
    history.replaceState(null, "", parts.length ? `#${parts.join("&")}` : location.pathname + location.search);
  }

  filters.hidden = false;
  let waiting = 0;
  filters.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(apply, 60); });
  filters.querySelector("button").addEventListener("click", () => {
    for (const name of names) field(name).value = "";
    apply();
  });
  sortByHeadings(sortTable);

  for (const part of location.hash.slice(1).split("&").filter((part) => part.includes("="))) {
    const [name, raw] = [part.slice(0, part.indexOf("=")), part.slice(part.indexOf("=") + 1)];
    if (!names.includes(name)) continue;
    try { field(name).value = decodeURIComponent(raw); } catch { continue; }
  }
  if (names.some((name) => field(name).value)) apply();
})();
