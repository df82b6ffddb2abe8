"use strict";

// aria-sort and the order of the rows are the state; nothing else remembers it.
const say = (text) => { document.getElementById("said").textContent = text; };

const valueOf = (row, column) => {
  const text = row.cells[column].dataset.value;
  if (text === undefined) return null;
  return row.closest("table").tHead.rows[0].cells[column].classList.contains("text") ? text : Number(text);
};

const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));

function sortBy(table, head) {
  const column = head.cellIndex;
  const before = head.getAttribute("aria-sort");
  const first = head.classList.contains("text") ? "ascending" : "descending";
  const other = first === "ascending" ? "descending" : "ascending";
  const order = before === first ? other : first;
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (row) => ({ row, value: valueOf(row, column) }));
  rows.sort((a, b) => {
    // what was not measured stays last in either order
    if (a.value === null || b.value === null) return (a.value === null) - (b.value === null);
    return order === "ascending" ? compare(a.value, b.value) : compare(b.value, a.value);
  });
  body.append(...rows.map(({ row }) => row));
  for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  say(`Sorted by ${head.textContent.trim()}, ${order}`);
}

for (const table of document.querySelectorAll("table")) {
  for (const head of table.tHead.rows[0].cells) {
    head.querySelector("button").addEventListener("click", () => sortBy(table, head));
  }
}

async function copy(button) {
  const code = button.previousElementSibling;
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    // not allowed to: leave it selected, so that the keyboard can copy it
    const range = document.createRange();
    range.selectNodeContents(code);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    button.textContent = "Selected";
    say("The command is selected");
    return;
  }
  button.textContent = "Copied";
  say("The command is copied");
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

for (const button of document.querySelectorAll("button.copy")) button.addEventListener("click", () => copy(button));
