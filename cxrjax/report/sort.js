"use strict";
// A click on a column's name sorts a table of numbers by it, the best figure first; another turns it about, a third
// gives the order that the page came with. What is empty stays last.
(() => {
  function value(row, column) {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? (cell.querySelector("b") ?? cell).textContent;
    return text.trim().replace(/^\u2212/, "-").replace(/(\d),(?=\d{3})/g, "$1");
  }

  function compare(number) {
    return number ? (a, b) => Number.parseFloat(b) - Number.parseFloat(a) : (a, b) => a.localeCompare(b, undefined, { numeric: true });
  }

  for (const table of document.querySelectorAll("table.numbers, table.choices")) {
    const head = table.tHead?.rows[0], body = table.tBodies[0];
    if (!head || !body || body.rows.length < 2) continue;
    const rows = [...body.rows];
    const state = { column: -1, turn: 0 };

    function sort(column) {
      state.turn = state.column === column ? (state.turn + 1) % 3 : 1;
      state.column = column;
      const told = rows.map((row) => ({ row, value: value(row, column) }));
      const some = told.filter((one) => one.value && one.value !== "—"), none = told.filter((one) => !some.includes(one));
      const number = some.every((one) => /^[-+]?\.?\d/.test(one.value));
      const order = compare(number);
      if (state.turn) some.sort((a, b) => (state.turn === 2 ? -1 : 1) * order(a.value, b.value));
      body.append(...(state.turn ? [...some, ...none].map((one) => one.row) : rows));
      const falling = number === (state.turn === 1);
      [...head.cells].forEach((cell, i) => {
        if (state.turn && i === column) cell.setAttribute("aria-sort", falling ? "descending" : "ascending");
        else cell.removeAttribute("aria-sort");
      });
    }

    [...head.cells].forEach((cell, column) => {
      if (!cell.textContent.trim()) return;
      const button = document.createElement("button");
      button.className = "sort";
      button.append(...cell.childNodes);
      button.addEventListener("click", () => sort(column));
      cell.append(button);
    });
  }
})();
