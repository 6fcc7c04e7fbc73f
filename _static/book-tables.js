// Tables with the class `survey`: a field that filters rows, and headings that sort them.
(() => {
  for (const table of document.querySelectorAll("table.survey")) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const filter = document.createElement("div");
    filter.className = "table-filter";
    filter.innerHTML = `<label>Show rows with <input type="search" autocomplete="off" spellcheck="false"></label> <span role="status"></span>`;
    (table.closest(".pst-scrollable-table-container") ?? table).before(filter);
    const input = filter.querySelector("input");
    const status = filter.querySelector("span");
    const show = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += !row.hidden;
      }
      status.textContent = words.length ? `${shown} of ${rows.length} rows` : "";
    };
    input.addEventListener("input", show);
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = cell.textContent;
      button.addEventListener("click", () => {
        const down = cell.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        cell.setAttribute("aria-sort", down ? "descending" : "ascending");
        const text = (row) => row.cells[column].textContent.trim();
        // Empty cells come last in either direction.
        rows.sort((a, b) => !text(a) - !text(b) || (down ? -1 : 1) * text(a).localeCompare(text(b)));
        body.append(...rows);
      });
      cell.replaceChildren(button);
    });
  }
})();
