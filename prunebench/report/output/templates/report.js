// What a report can be asked: sort, filter, isolate a method, copy and download; the view is kept in the address.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const filters = document.getElementById("filters");
  const field = (name) => filters.querySelector(`[name=${name}]`);
  const told = document.getElementById("told");
  const axes = ["model", "method", "sparsity", "task"];
  const known = Object.fromEntries(axes.map((axis) => [axis, all(`select[name=${axis}] option[value]`, filters).map((o) => o.value).filter(Boolean)]));
  const view = { model: "", method: "", sparsity: "", task: "", text: "" };
  const sorted = new Map(); // table → "column:direction"
  const tables = all("table");

  // Does a text name a thing as a whole, and no longer name that begins like it?
  const names = (text, name) => {
    for (let at = text.indexOf(name); at >= 0; at = text.indexOf(name, at + 1)) {
      const around = (text[at - 1] ?? " ") + (text[at + name.length] ?? " ");
      if (!/[\w+-]|\.\w/.test(around)) return true;
    }
    return false;
  };
  const related = (label, method) =>
    label === method || label.startsWith(`${method} `) || method.startsWith(`${label} `);
  const about = (axis, text) => known[axis].filter((name) => names(text, name));
  // Hidden where something is asked for, and the text names others of its kind alone.
  const elsewhere = (axis, text) => {
    if (!view[axis]) return false;
    const found = about(axis, text);
    return found.length > 0 && !found.includes(view[axis]);
  };

  // Read when first asked for: of ten thousand cells that takes a while.
  let knownFacts;
  const factsOf = () => knownFacts ??= new Map(tables.map((table) => {
    const headings = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
    const rows = [...table.tBodies[0].rows].map((row) => ({ row, cells: [...row.cells].map((cell) => cell.textContent.trim()), words: row.textContent.toLowerCase() }));
    return [table, { headings, rows, caption: table.caption.textContent }];
  }));

  function apply() {
    const facts = factsOf();
    let rowsShown = 0;
    const words = view.text.toLowerCase().split(/\s+/).filter(Boolean);
    const asked = axes.some((axis) => view[axis]) || words.length > 0;
    for (const table of tables) {
      const { headings, rows, caption } = facts.get(table);
      const rowAxes = ["model", "method", "sparsity"].filter((axis) => view[axis] && headings.includes(axis));
      const at = Object.fromEntries(rowAxes.map((axis) => [axis, headings.indexOf(axis)]));
      const tasks = view.task && headings.some((heading) => about("task", heading).length);
      const columns = headings.map((heading) =>
        (tasks && about("task", heading).length > 0 && !names(heading, view.task)) ||
        (view.sparsity && known.sparsity.includes(heading) && heading !== view.sparsity));
      let shown = 0;
      for (const { row, cells, words: own } of rows) {
        const fits = rowAxes.every((axis) => axis === "method" ? related(cells[at[axis]], view.method) : cells[at[axis]] === view[axis])
          && words.every((word) => own.includes(word));
        row.hidden = !fits;
        shown += fits;
        if (row.dataset.cut || columns.some(Boolean)) {
          [...row.cells].forEach((cell, n) => { cell.hidden = columns[n]; });
          row.dataset.cut = columns.some(Boolean) ? "1" : "";
        }
      }
      [...table.tHead.rows[0].cells].forEach((cell, n) => { cell.hidden = columns[n]; });
      const away = elsewhere("model", caption) || (asked && shown === 0);
      table.closest(".scroll").hidden = away;
      rowsShown += away ? 0 : shown;
    }
    let figuresShown = 0;
    for (const figure of all("figure")) {
      const title = figure.querySelector("figcaption").textContent;
      figure.hidden = elsewhere("model", title) || elsewhere("task", title);
      figuresShown += !figure.hidden;
      for (const part of all("[data-series]", figure)) {
        part.classList.toggle("away", Boolean(view.method) && !related(part.dataset.series, view.method));
      }
    }
    for (const item of all(".legend button")) {
      const on = Boolean(view.method) && related(item.lastElementChild.textContent, view.method);
      item.setAttribute("aria-pressed", String(on));
      item.classList.toggle("away", Boolean(view.method) && !on);
    }
    told.textContent = !asked ? "" : rowsShown ? `${rowsShown} rows and ${figuresShown} plots` : "Nothing matches: change or reset the filters.";
    for (const name of [...axes, "text"]) field(name).value = view[name];
  }

  function keep(anchor) {
    const parts = [...axes, "text"].filter((name) => view[name]).map((name) => `${name}=${encodeURIComponent(view[name])}`);
    sorted.forEach((how, table) => parts.push(`sort${tables.indexOf(table)}=${how}`));
    history.replaceState(null, "", parts.length || anchor ? `#${[anchor, ...parts].join("&")}` : location.pathname + location.search);
  }
  const anchor = () => { const first = location.hash.slice(1).split("&")[0]; return first.includes("=") ? "" : first; };

  function sort(table, column, direction) {
    if (sortTable(table, column, direction)) sorted.set(table, `${column}:${direction}`);
  }

  // What is shown of a table, as text.
  const grid = (table) => [table.tHead.rows[0], ...table.tBodies[0].rows].filter((row) => !row.hidden)
    .map((row) => [...row.cells].filter((cell) => !cell.hidden).map((cell) => cell.textContent.trim()));
  const csv = (table) => grid(table).map((row) => row.map((entry) => /[",\n]/.test(entry) ? `"${entry.replaceAll('"', '""')}"` : entry).join(",")).join("\n") + "\n";
  const signs = { "\\": "\\textbackslash{}", "^": "\\^{}", "~": "\\textasciitilde{}", "<": "\\ensuremath{<}", ">": "\\ensuremath{>}", "|": "\\ensuremath{|}", "[": "{[}", "]": "{]}", "±": "$\\pm$", "×": "$\\times$", "–": "--", "†": "$^\\dagger$" };
  const escaped = (text) => text.replace(/[\\^~<>|[\]±×–†]|[&%$#_{}]/g, (sign) => signs[sign] ?? `\\${sign}`);
  function latex(table) {
    const [head, ...rows] = grid(table);
    const align = [...table.tHead.rows[0].cells].filter((cell) => !cell.hidden).map((cell) => cell.classList.contains("number") ? "r" : "l").join("");
    const bold = [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => [...row.cells].filter((cell) => !cell.hidden).map((cell) => Boolean(cell.querySelector("strong"))));
    const line = (row, marks = []) => `${row.map((entry, n) => marks[n] ? `\\textbf{${escaped(entry)}}` : escaped(entry)).join(" & ")} \\\\`;
    return ["\\begin{table}", "\\centering", `\\caption{${escaped(table.caption.textContent)}}`, `\\begin{tabular}{${align}}`, "\\toprule", line(head), "\\midrule", ...rows.map((row, n) => line(row, bold[n])), "\\bottomrule", "\\end{tabular}", "\\end{table}", ""].join("\n");
  }
  function svg(figure) {
    const source = figure.querySelector("svg");
    const ink = getComputedStyle(source).color;
    const root = getComputedStyle(document.documentElement);
    const copy = source.cloneNode(true);
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    return copy.outerHTML.replace(/var\((--[\w-]+)\)/g, (_, name) => root.getPropertyValue(name).trim()).replaceAll("currentColor", ink).replaceAll(' class="away"', ' opacity="0.08"');
  }
  function download(name, content, type) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
  const stem = (text) => text.toLowerCase().replace(/[^a-z0-9.]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 80) || "table";
  function tool(place, label, what, act) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    button.setAttribute("aria-label", what);
    button.addEventListener("click", () => act(button));
    place.append(button);
  }
  for (const scroll of all(".scroll")) {
    const table = scroll.querySelector("table");
    const title = table.caption.textContent;
    const place = document.createElement("div");
    place.className = "tools";
    scroll.append(place);
    tool(place, "copy", `Copy as CSV: ${title}`, async (button) => {
      try { await navigator.clipboard.writeText(csv(table)); button.textContent = "copied"; } catch { button.textContent = "no access"; }
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    });
    tool(place, "CSV", `Download as CSV: ${title}`, () => download(`${stem(title)}.csv`, csv(table), "text/csv"));
    tool(place, "LaTeX", `Download as LaTeX: ${title}`, () => download(`${stem(title)}.tex`, latex(table), "text/x-tex"));
  }
  for (const figure of all("figure")) {
    const title = figure.querySelector("figcaption").textContent;
    const place = document.createElement("div");
    place.className = "tools";
    figure.append(place);
    tool(place, "SVG", `Download as SVG: ${title}`, () => download(`${stem(title)}.svg`, svg(figure), "image/svg+xml"));
  }
  for (const item of all(".legend li")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...item.children);
    item.append(button);
    button.addEventListener("click", () => {
      const label = button.lastElementChild.textContent;
      const method = known.method.find((name) => name === label) ?? known.method.find((name) => related(label, name)) ?? "";
      view.method = view.method === method ? "" : method;
      apply();
      keep(anchor());
    });
  }
  sortByHeadings((table, column, direction) => {
    sort(table, column, direction);
    keep(anchor());
  });
  // Values of the point under the pointer, at once; browsers show the same title after a while.
  const tip = document.getElementById("tip");
  document.addEventListener("pointerover", (event) => {
    const title = event.target.closest?.("use")?.querySelector("title");
    tip.hidden = !title;
    if (!title) return;
    tip.textContent = title.textContent;
    tip.style.left = `${Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${event.clientY + 14}px`;
  });

  filters.hidden = false;
  filters.addEventListener("input", (event) => {
    view[event.target.name] = event.target.value;
    apply();
    keep(anchor());
  });
  filters.querySelector("button").addEventListener("click", () => {
    for (const name of Object.keys(view)) view[name] = "";
    apply();
    keep(anchor());
  });
  function open(name) {
    const folded = name && document.getElementById(name)?.querySelector("details");
    if (folded) folded.open = true;
  }
  function read() {
    const parts = location.hash.slice(1).split("&").filter((part) => part.includes("="));
    for (const part of parts) {
      const at = part.indexOf("=");
      const [name, raw] = [part.slice(0, at), part.slice(at + 1)];
      let value = "";
      try { value = decodeURIComponent(raw); } catch { continue; }
      if (name === "text" || (axes.includes(name) && known[name].includes(value))) view[name] = value;
      const table = /^sort\d+$/.test(name) ? tables[Number(name.slice(4))] : undefined;
      const [column, direction] = value.split(":");
      if (table && /^\d+$/.test(column) && ["ascending", "descending"].includes(direction)) sort(table, Number(column), direction);
    }
    if (Object.values(view).some(Boolean)) apply();
    open(anchor());
    document.getElementById(anchor())?.scrollIntoView();
  }
  window.addEventListener("hashchange", () => { open(anchor()); keep(anchor()); });
  window.addEventListener("beforeprint", () => { for (const folded of all("details")) folded.open = true; });
  read();
})();
