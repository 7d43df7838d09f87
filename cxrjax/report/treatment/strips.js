"use strict";
(() => {
  const live = JSON.parse(document.getElementById("live").textContent);
  const box = document.querySelector(".lightbox");
  const slider = document.getElementById("lambda");
  const differences = document.getElementById("differences");
  const output = document.getElementById("lam");
  const last = live.lambdas.length - 1;
  const modes = Object.keys(live.probability);
  const each = (selector, act) => document.querySelectorAll(selector).forEach(act);
  const number = (value) => (value === null || value === undefined ? "—" : value.toFixed(2));
  const percent = (value) => (value === null || value === undefined ? "—" : Math.round(100 * value) + " %");
  const order = (judges) => judges.sort((a, b) => (b === "independent") - (a === "independent") || a.localeCompare(b));

  // One line of bar and number for each judge and treated film, built once and refilled as lambda moves.
  const cells = [];
  each("tr[data-row]", (row) => {
    row.querySelectorAll(".p").forEach((cell) => {
      const table = live.probability[cell.dataset.p];
      for (const judge of order(Object.keys(table))) {
        const line = cell.appendChild(document.createElement("div"));
        const text = line.appendChild(document.createElement("span"));
        const bar = line.appendChild(document.createElement("u")).appendChild(document.createElement("b"));
        line.title = "probability of “normal”: " + judge.replace("_", " ");
        cells.push({ text, bar, values: table[judge][Number(row.dataset.row)] });
      }
    });
  });

  function show(index, remember) {
    const i = Math.max(0, Math.min(last, index));
    slider.value = i;
    output.textContent = live.lambdas[i] === 0 ? "0 (untreated)" : live.lambdas[i];
    slider.setAttribute("aria-valuetext", "lambda " + live.lambdas[i]);
    box.style.setProperty("--i", i);
    for (const { text, bar, values } of cells) {
      text.textContent = number(values[i]);
      bar.style.width = 100 * (values[i] ?? 0) + "%";
    }
    for (const mode of modes) {
      each(`td[data-mode="${mode}"]`, (cell) => cell.classList.toggle("absent", !live.present[mode][i]));
      const rates = live.rates[mode] || {};
      const shown = order(Object.keys(rates)).map((judge) => percent(rates[judge][i]));
      each(`[data-rate="${mode}"]`, (cell) => (cell.textContent = shown.join(" / ")));
    }
    if (remember) {
      try { history.replaceState(null, "", "#lambda=" + live.lambdas[i]); } catch (error) { /* some viewers forbid it */ }
    }
  }

  // #lambda=400 opens the page there; a lambda that was not run goes to the nearest that was.
  function fromHash() {
    const match = /lambda=(\d+)/.exec(location.hash);
    if (!match) return Math.round(last / 2);
    const distance = live.lambdas.map((lam) => Math.abs(lam - Number(match[1])));
    return distance.indexOf(Math.min(...distance));
  }

  slider.addEventListener("input", () => show(Number(slider.value), true));
  window.addEventListener("hashchange", () => show(fromHash(), false));
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move) return;
    event.preventDefault();
    show(Number(slider.value) + move, true);
  });

  each(".sprite", (film) => {
    let start = null;
    film.addEventListener("pointerdown", (event) => {
      start = { x: event.clientX, index: Number(slider.value) };
      film.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    film.addEventListener("pointermove", (event) => {
      if (start) show(start.index + Math.round((event.clientX - start.x) / 16), true);
    });
    for (const end of ["pointerup", "pointercancel"]) film.addEventListener(end, () => (start = null));
  });

  // "fit" makes the tiles as large as the window lets them be without scrolling sideways.
  let size = "fit";
  function resize() {
    const shown = [...document.querySelectorAll(".strips thead th")].filter((cell) => !cell.classList.contains("off"));
    const treated = shown.filter((cell) => cell.classList.contains("treated")).length;
    const plain = shown.length - 1 - treated;
    const tiles = plain + treated * (differences.checked ? 2 : 1);
    const names = document.querySelector(".who")?.offsetWidth ?? 0;
    const room = document.querySelector(".lightbox .scroll").clientWidth - names - 37 - 9 * (plain + treated) - 2 * treated;
    const fit = Math.max(64, Math.min(180, Math.floor(room / tiles)));
    box.style.setProperty("--tile", (size === "fit" ? fit : Number(size)) + "px");
  }

  each("[data-toggle]", (toggle) => toggle.addEventListener("change", () => {
    each(`[data-mode="${toggle.dataset.toggle}"]`, (cell) => cell.classList.toggle("off", !toggle.checked));
    resize();
  }));
  differences.addEventListener("change", () => {
    box.classList.toggle("no-diff", !differences.checked);
    resize();
  });
  each("[data-size]", (button) => button.addEventListener("click", () => {
    size = button.dataset.size;
    resize();
    each("[data-size]", (other) => other.classList.toggle("on", other === button));
  }));

  window.addEventListener("resize", resize);
  resize();
  show(fromHash(), false);
})();
