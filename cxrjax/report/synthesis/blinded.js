"use strict";
(() => {
  const id = (name) => document.getElementById(name);
  const about = JSON.parse(id("about").textContent);
  const films = [...document.querySelectorAll(".view img")];
  const marks = [...document.querySelectorAll("[data-mark]")];
  const total = films.length;
  const store = "cxrjax-blinded-" + about.id;
  const fresh = (seen) => ({ answers: Array(total).fill(null), at: 0, finished: null, seen });
  let state = load() || fresh(0);

  function load() {
    try {
      const kept = JSON.parse(localStorage.getItem(store));
      const known = (answer) => [null, "real", "generated"].includes(answer);
      if (!kept || kept.answers.length !== total || !kept.answers.every(known)) return null;
      return { ...fresh(0), ...kept, at: Math.min(total - 1, Math.max(0, kept.at | 0)) };
    } catch (error) { return null; } // no storage, or not ours
  }

  function save() {
    let kept = true;
    try { localStorage.setItem(store, JSON.stringify(state)); } catch (error) { kept = false; }
    id("kept").textContent = kept
      ? "Your answers are kept in this browser: a reload loses nothing."
      : "This browser lets the page keep nothing: a reload loses the answers.";
  }

  const count = () => state.answers.filter(Boolean).length;

  const overview = films.map((film, index) => {
    const button = id("overview").appendChild(document.createElement("button"));
    button.textContent = index + 1;
    button.addEventListener("click", () => go(index));
    return button;
  });

  function draw() {
    const { answers, at } = state;
    films.forEach((film, index) => (film.hidden = index !== at));
    id("at").textContent = `Film ${at + 1} of ${total}`;
    id("said").textContent = answers[at] ? `· marked ${answers[at]}` : "· not marked";
    marks.forEach((button) => button.setAttribute("aria-pressed", button.dataset.mark === answers[at]));
    overview.forEach((button, index) => {
      button.dataset.letter = answers[index] ? answers[index][0].toUpperCase() : "·";
      button.setAttribute("aria-label", `Film ${index + 1}, ${answers[index] ? "marked " + answers[index] : "not marked"}`);
      button.setAttribute("aria-current", index === at);
    });
    const box = id("overview"); // shows the current film's button, without moving the page
    const below = overview[at].offsetTop - box.offsetTop;
    if (below < box.scrollTop || below + overview[at].offsetHeight > box.scrollTop + box.clientHeight) box.scrollTop = below - box.clientHeight / 2;
    id("previous").disabled = at === 0;
    id("next").disabled = at === total - 1;
    id("count").textContent = `${count()} of ${total}`;
    id("bar").value = count();
    id("finish").disabled = count() < total;
    id("early").disabled = count() === 0;
    id("early").hidden = count() === total;
    save();
  }

  function go(index) {
    state.at = Math.max(0, Math.min(total - 1, index));
    draw();
    id("live").textContent = id("at").textContent + " " + id("said").textContent;
  }

  // A first answer moves on to the next film without one; a changed answer stays, so that one sees it.
  function mark(answer) {
    const { at } = state;
    const first = state.answers[at] === null;
    state.answers[at] = answer;
    const ahead = [...films.keys()].map((step) => (at + step) % total).find((index) => state.answers[index] === null);
    go(first && ahead !== undefined ? ahead : at);
    id("live").textContent = `Film ${at + 1} marked ${answer}. ${id("at").textContent}.`;
  }

  function ask(question, yes, act) {
    id("question").textContent = question;
    id("yes").textContent = yes;
    const dialog = id("ask");
    dialog.returnValue = "";
    dialog.onclose = () => { if (dialog.returnValue === "yes") act(); };
    dialog.showModal();
  }

  marks.forEach((button) => button.addEventListener("click", () => mark(button.dataset.mark)));
  id("previous").addEventListener("click", () => go(state.at - 1));
  id("next").addEventListener("click", () => go(state.at + 1));
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || state.finished || id("ask").open) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const answer = { r: "real", g: "generated" }[event.key.toLowerCase()];
    if (step) go(state.at + step);
    else if (answer && !event.repeat) mark(answer);
    else return;
    event.preventDefault();
  });

  function finish() {
    state.finished = new Date().toISOString();
    save();
    showResults();
    id("done").focus();
    window.scrollTo(0, 0);
  }
  id("finish").addEventListener("click", finish);
  id("early").addEventListener("click", () => {
    const left = total - count();
    ask(
      `${left} of ${total} films ${left === 1 ? "is" : "are"} not marked and will be left out of the score. After the key is shown no answer can be changed.`,
      "Finish now",
      finish
    );
  });
  document.querySelectorAll("[data-over]").forEach((button) => button.addEventListener("click", () =>
    ask(
      state.finished
        ? "This deletes your answers; download them first if you need them. The films stay in the same order, so a second reading by someone who saw the key is no longer blind."
        : `This deletes your ${count()} answers.`,
      "Start over",
      () => {
        state = fresh(state.seen + (state.finished ? 1 : 0));
        start();
        window.scrollTo(0, 0);
      }
    )));

  // Below: what needs the key, and so runs only after the reading.
  function readKey() {
    const bytes = Uint8Array.from(atob(id("key").textContent.trim()), (letter) => letter.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes)).map((film, index) => {
      const answer = state.answers[index];
      return { film: index + 1, ...film, answer, right: answer === null ? null : answer === film.truth };
    });
  }

  // Wilson 1927: the score interval of a share at 95 %.
  function share(hits, n) {
    if (n === 0) return { hits, n, value: null, low: null, high: null };
    const z = 1.959963984540054;
    const p = hits / n;
    const middle = (p + (z * z) / (2 * n)) / (1 + (z * z) / n);
    const half = (z / (1 + (z * z) / n)) * Math.sqrt((p * (1 - p)) / n + (z * z) / (4 * n * n));
    return { hits, n, value: p, low: Math.max(0, middle - half), high: Math.min(1, middle + half) };
  }

  function score(rows) {
    const marked = rows.filter((row) => row.answer !== null);
    const of = (truth) => marked.filter((row) => row.truth === truth);
    const called = (some) => some.filter((row) => row.answer === "generated").length;
    return {
      accuracy: share(marked.filter((row) => row.right).length, marked.length),
      generated_called_generated: share(called(of("generated")), of("generated").length),
      real_called_generated: share(called(of("real")), of("real").length),
    };
  }

  const figure = (value) => (value === null ? "—" : value.toFixed(2));

  function meaning({ accuracy, generated_called_generated: hit, real_called_generated: slip }) {
    if (!hit.n || !slip.n) return "How to read it: the marked films are all of one kind, so the score says nothing about telling the kinds apart.";
    const uneven = Math.abs(hit.n - slip.n) > 0.1 * accuracy.n;
    if (uneven) {
      const most = hit.n > slip.n ? "generated" : "real";
      return `How to read it: 0.50 is guessing by coin toss, but the marked films are uneven, ${slip.n} real and ${hit.n} generated: calling all of them ${most} would have scored ${figure(Math.max(hit.n, slip.n) / accuracy.n)}. So compare the lower two rows: a reader who cannot tell calls real and generated films “generated” equally often.`;
    }
    const verdict = accuracy.low > 0.5
      ? "The whole interval lies above 0.50: this reader told generated films from real ones better than guessing would."
      : accuracy.high < 0.5
        ? "The whole interval lies below 0.50: this reader saw a difference, but took it the wrong way round."
        : "The interval holds 0.50: this reading does not show that the reader could tell them apart. With few films it does not show the opposite either.";
    return `How to read it: an accuracy of 0.50 is guessing and 1.00 is every film told right. ${verdict}`;
  }

  function element(tag, className, text) {
    const made = document.createElement(tag);
    made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function card(row) {
    const item = document.createElement("li");
    const synthetic = row.truth === "generated";
    const thumb = item.appendChild(element("div", "thumb"));
    const picture = thumb.appendChild(document.createElement("img"));
    picture.src = films[row.film - 1].src;
    picture.alt = `Film ${row.film}: ${synthetic ? "synthetic, " + about.notice : "real film"}`;
    if (synthetic) thumb.appendChild(element("span", "badge", "synthetic"));
    const text = item.appendChild(element("div", "text"));
    const verdict = row.right === null ? ["out", "not marked"] : row.right ? ["right", "✓ right"] : ["wrong", "✗ wrong"];
    text.appendChild(element("p", "verdict " + verdict[0], `${row.film} · ${verdict[1]}`));
    text.appendChild(element("p", "", `Truth: ${row.truth}`));
    text.appendChild(element("p", "", `Answer: ${row.answer || "—"}`));
    text.appendChild(element("p", "soft", `${synthetic ? "Asked for" : "Labeled"}: ${row.finding || "—"}`));
    text.appendChild(element("p", "soft", row.name));
    return item;
  }

  function showResults() {
    const rows = readKey();
    const result = score(rows);
    const { hits, n, value, low, high } = result.accuracy;
    id("headline").textContent =
      `${hits} of ${n} marked films told right: accuracy ${figure(value)} [${figure(low)}, ${figure(high)}]` +
      (n < total ? `; ${total - n} not marked, left out.` : ".") +
      (state.seen ? " The key had been shown in this browser before, so this reading may not be blind." : "");
    const names = {
      accuracy: "Accuracy: films told right",
      generated_called_generated: "Sensitivity: generated films called generated",
      real_called_generated: "Real films called generated",
    };
    id("score").replaceChildren(...Object.entries(names).map(([name, text]) => {
      const part = result[name];
      const line = document.createElement("tr");
      line.append(element("td", "", text), element("td", "r", `${part.hits} of ${part.n}`), element("td", "r", figure(part.value)));
      line.append(element("td", "r ci", part.n ? `[${figure(part.low)}, ${figure(part.high)}]` : "—"));
      line.children[2].style.fontWeight = 620;
      return line;
    }));
    id("meaning").textContent = meaning(result);
    id("films").replaceChildren(...rows.map(card));
    id("download").onclick = () => download({
      title: about.title, page: about.id, finished: state.finished, key_seen_before: state.seen > 0,
      notice: "Films whose truth is “generated” are synthetic. " + about.notice + ".", score: result, films: rows,
    });
    id("reading").hidden = true;
    id("results").hidden = false;
  }

  function download(answers) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(answers, null, 1)], { type: "application/json" }));
    link.download = `blinded-${about.id}.json`;
    document.body.appendChild(link).click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  function start() {
    id("results").hidden = true;
    id("reading").hidden = false;
    id("films").replaceChildren();
    if (state.finished) showResults();
    draw();
  }

  start();
})();
