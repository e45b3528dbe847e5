"use strict";
// Values on hover, tables that sort, and files to save. Without it the page shows all else.
(() => {
  const COLOURS = 6;
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.setAttribute("role", "status");
  tip.hidden = true;
  document.body.append(tip);

  const make = (name, text, kind) => {
    const found = document.createElement(name);
    if (text !== undefined) found.textContent = text;
    if (kind) found.className = kind;
    return found;
  };

  // ---- values on hover

  function nearest(values, wanted) {
    let best = -1;
    values.forEach((value, i) => {
      if (best < 0 || Math.abs(value - wanted) < Math.abs(values[best] - wanted)) best = i;
    });
    return best;
  }

  const shown = (value) => String(Number(value.toPrecision(4)));

  function linesAt(data, point) {
    const [low, high, left, right] = data.x;
    const wanted = low + ((point.x - left) / (right - left)) * (high - low);
    const all = data.series.filter((one) => !one.level).flatMap((one) => one.x);
    if (!all.length) return null;
    const x = all[nearest(all, wanted)];
    const rows = data.series.flatMap((one, index) => {
      const i = one.level ? one.y.length - 1 : nearest(one.x, x);
      if (i < 0) return [];
      const band = one.low && one.low[i] !== null
        ? ` (${shown(one.low[i])} to ${shown(one.high[i])})` : "";
      const where = one.level || one.x[i] === x ? "" : ` at ${shown(one.x[i])}`;
      return [{ index, name: one.name, y: one.y[i], text: shown(one.y[i]) + band + where }];
    });
    rows.sort((a, b) => b.y - a.y);
    const place = left + ((x - low) / (high - low)) * (right - left);
    return { title: `${data.axes[0]} ${shown(x)}`, rows, place };
  }

  function cellAt(data, point) {
    const [left, top, wide, high] = data.box;
    const i = Math.floor((point.y - top) / high);
    const j = Math.floor((point.x - left) / wide);
    const value = (data.values[i] || [])[j];
    if (value === undefined) return null;
    const sum = data.values[i].reduce((a, b) => a + b, 0);
    const share = data.shares && sum ? ` (${((100 * value) / sum).toFixed(1)} %)` : "";
    return {
      title: `${data.axes[1]} ${data.rows[i]}`,
      rows: [{ name: `${data.axes[0]} ${data.columns[j]}`, text: `${value}${share}` }],
    };
  }

  function barAt(data, point) {
    const [left, wide] = data.box;
    const i = Math.floor((point.x - left) / wide);
    const panel = data.panels.find((one) => point.y >= one.top - 12 && point.y <= one.bottom);
    if (!panel || i < 0 || i >= panel.values.length) return null;
    const value = panel.values[i];
    const title = panel.names ? `${panel.title}: ${panel.names[i]}` : `${data.noun} ${data.names[i]}`;
    const text = value === null ? "not known" : shown(value);
    return { title, rows: [{ name: panel.names ? data.of : panel.title, text }] };
  }

  const FINDERS = { lines: linesAt, cells: cellAt, bars: barAt };

  function hideTip(svg) {
    tip.hidden = true;
    svg.querySelectorAll(".cursor").forEach((one) => one.remove());
  }

  function showTip(svg, found, x, y) {
    tip.replaceChildren(make("strong", found.title));
    const list = make("dl", undefined, found.rows.length > 14 ? "many" : "");
    for (const row of found.rows) {
      const name = make("dt", row.name);
      if (row.index !== undefined) name.classList.add("key", `k${(row.index % COLOURS) + 1}`);
      const pair = make("div");
      pair.append(name, make("dd", row.text));
      list.append(pair);
    }
    tip.append(list);
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const right = document.documentElement.clientWidth - box.width - 8;
    const beside = x + 16 > right ? x - box.width - 16 : x + 16;
    tip.style.left = `${Math.max(8, Math.min(beside, right))}px`;
    tip.style.top = `${Math.max(8, Math.min(y + 16, window.innerHeight - box.height - 8))}px`;
    svg.querySelectorAll(".cursor").forEach((one) => one.remove());
    if (found.place !== undefined) {
      const cursor = document.createElementNS("http://www.w3.org/2000/svg", "path");
      cursor.setAttribute("class", "cursor");
      cursor.setAttribute("d", `M${found.place} 22v190`);
      svg.prepend(cursor);
    }
  }

  function bringForward(svg, index) {
    for (const one of svg.querySelectorAll(".curve, .entry")) {
      one.classList.toggle("dim", index !== null && one.dataset.series !== index);
    }
  }

  function enliven(figure) {
    const svg = figure.querySelector("svg");
    let data = null;
    const values = () => (data ??= JSON.parse(figure.querySelector("script").textContent));
    const show = (event) => {
      const box = svg.getBoundingClientRect();
      const scale = svg.viewBox.baseVal.width / box.width;
      const point = { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale };
      const entry = event.target.closest && event.target.closest(".entry, .curve");
      bringForward(svg, entry ? entry.dataset.series : null);
      const found = FINDERS[values().kind](values(), point);
      if (found) showTip(svg, found, event.clientX, event.clientY);
      else hideTip(svg);
    };
    svg.addEventListener("pointermove", show);
    svg.addEventListener("pointerdown", show);
    svg.addEventListener("pointerleave", () => { hideTip(svg); bringForward(svg, null); });
    svg.addEventListener("blur", () => hideTip(svg));
    svg.addEventListener("keydown", (event) => {
      if (event.key === "Escape") hideTip(svg);
      const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!way || values().kind !== "lines") return;
      event.preventDefault();
      const all = [...new Set(values().series.flatMap((one) => (one.level ? [] : one.x)))];
      all.sort((a, b) => a - b);
      if (!all.length) return;
      const last = Number(svg.dataset.at ?? -1) + way;
      const at = Math.max(0, Math.min(all.length - 1, last));
      svg.dataset.at = at;
      const [low, high, left, right] = values().x;
      const x = left + ((all[at] - low) / (high - low)) * (right - left);
      const box = svg.getBoundingClientRect();
      const found = linesAt(values(), { x, y: 0 });
      showTip(svg, found, box.left + (x * box.width) / svg.viewBox.baseVal.width, box.top + 40);
    });
    const bar = make("p", undefined, "tools");
    bar.append(
      button("SVG", "Save this figure as SVG", () => saveSvg(figure, svg)),
      button("PNG", "Save this figure as PNG", () => savePng(figure, svg)),
    );
    figure.append(bar);
  }

  function button(text, label, act) {
    const found = make("button", text);
    found.type = "button";
    found.setAttribute("aria-label", label);
    found.title = label;
    found.addEventListener("click", act);
    return found;
  }

  // ---- files

  function save(name, blob) {
    const link = make("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  // The chart by itself: with its style, and colours in place of the variables of the page.
  function standalone(svg) {
    const copy = svg.cloneNode(true);
    copy.querySelectorAll(".cursor").forEach((one) => one.remove());
    const computed = getComputedStyle(document.documentElement);
    const style = document.getElementById("chart-style").textContent.replace(
      /var\((--[\w-]+)\)/g, (_, name) => computed.getPropertyValue(name).trim());
    const { width, height } = svg.viewBox.baseVal;
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    copy.setAttribute("width", width);
    copy.setAttribute("height", height);
    copy.removeAttribute("tabindex");
    const rules = document.createElementNS("http://www.w3.org/2000/svg", "style");
    rules.textContent = style;
    const paper = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    paper.setAttribute("class", "paper");
    paper.setAttribute("width", width);
    paper.setAttribute("height", height);
    copy.prepend(rules, paper);
    return new XMLSerializer().serializeToString(copy);
  }

  function saveSvg(figure, svg) {
    save(`${figure.id}.svg`, new Blob([standalone(svg)], { type: "image/svg+xml" }));
  }

  function savePng(figure, svg) {
    const { width, height } = svg.viewBox.baseVal;
    const image = new Image();
    image.onload = () => {
      const canvas = make("canvas");
      canvas.width = 3 * width;
      canvas.height = 3 * height;
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((blob) => save(`${figure.id}.png`, blob), "image/png");
    };
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(standalone(svg))}`;
  }

  // As fedcli's own CSV: a spreadsheet shows what would be a formula as text.
  function csvCell(text) {
    const number = /^[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$/;
    const safe = number.test(text)
      ? text : text.replace(/(^|;)(\s*[=+\-@\uff1d\uff0b\uff0d\uff20\t\r])/g, "$1'$2");
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }

  const csvOf = (table) => [...table.rows]
    .map((row) => [...row.cells].map((cell) => csvCell(cell.textContent.trim())).join(",") + "\n")
    .join("");

  // ---- tables

  function keyOf(row, column, asNumber) {
    const text = row.cells[column].textContent.trim();
    if (!asNumber) return text;
    const found = parseFloat(text.replace("−", "-").replace(/^[^\d+-]*(?=[-+]?\d)/, ""));
    return Number.isNaN(found) ? null : found;
  }

  function sortBy(table, head) {
    const column = head.cellIndex;
    const before = head.getAttribute("aria-sort");
    const asNumber = !head.classList.contains("text");
    const way = before === "ascending" || (before === null && asNumber && column > 0) ? -1 : 1;
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows].map((row) => [keyOf(row, column, asNumber), row]);
    const compare = (a, b) =>
      asNumber ? a - b : a.localeCompare(b, undefined, { numeric: true });
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return way * compare(a, b);
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }

  function makeSortable(scroll) {
    const table = scroll.querySelector("table");
    for (const head of table.tHead.rows[0].cells) {
      const text = head.textContent;
      if (!text) continue;
      const own = make("button", text);
      own.type = "button";
      own.addEventListener("click", () => sortBy(table, head));
      head.replaceChildren(own);
    }
    const bar = make("p", undefined, "tools");
    const name = `${scroll.dataset.name}.csv`;
    const text = () => new Blob([csvOf(table)], { type: "text/csv" });
    bar.append(button("CSV", "Save this table as CSV", () => save(name, text())));
    scroll.after(bar);
  }

  // ---- folded sections

  function openAround(target) {
    for (let one = target; one; one = one.parentElement) {
      if (one.tagName === "DETAILS") one.open = true;
    }
  }

  function openTarget() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (!target) return;
    openAround(target);
    target.scrollIntoView();
  }

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((one) => { one.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach((one) => { one.open = false; }));
  addEventListener("hashchange", openTarget);
  document.querySelectorAll("figure").forEach(enliven);
  document.querySelectorAll(".scroll").forEach(makeSortable);
  openTarget();
})();
