// Predictions: the reader commits to a guess before the outputs of the section show.
// A cell tagged `prediction` holds `guess = …  # the choices`; a later cell of the section prints
// "your guess", "measured" and a verdict (utils/checks.py). Without this script everything shows.
(() => {
  const TOLERANCE = 0.005; // that of check_prediction
  const store = {
    get: (key) => { try { return localStorage.getItem(key); } catch { return null; } },
    set: (key, value) => { try { localStorage.setItem(key, value); } catch { /* a private window */ } },
  };
  const cells = [...document.querySelectorAll("div.cell.tag_prediction")];
  // What the reader said on this page, by section and question; a skipped one holds null.
  const page = `guesses ${location.pathname.split("/").pop()}`;
  const guesses = JSON.parse(store.get(page) ?? "{}");

  const after = (cell) => {
    const rest = [];
    for (let next = cell.nextElementSibling; next; next = next.nextElementSibling) rest.push(next);
    return rest;
  };

  // `"yes"  # "yes" or "no"` gives two choices; a comment without quotes is a hint.
  const question = (cell) => {
    const source = cell.querySelector("pre").textContent;
    const [, stored, comment] = source.match(/guess = (.+?)\s+# (.+)/);
    const choices = [...comment.matchAll(/"([^"]+)"/g)].map((match) => match[1]);
    return { stored: stored.replaceAll('"', ""), hint: comment, choices };
  };

  const keyOf = (cell) => `${cell.closest("section[id]")?.id}: ${question(cell).hint}`;
  const remember = (cell, guess) => {
    guesses[keyOf(cell)] = guess;
    store.set(page, JSON.stringify(guesses));
    count();
  };

  // The printed verdict that belongs to a prediction: the first one behind it.
  const verdictOf = (cell) => {
    for (const sibling of after(cell)) {
      for (const pre of sibling.querySelectorAll(".cell_output pre")) {
        if (pre.textContent.includes("your guess: ")) return pre;
      }
    }
    return null;
  };

  const judge = (guess, text) => {
    const [, measured, , allowed] = text.match(/measured:\s+(.+?)( \(give or take (.+?)\))?\n/);
    const numbers = [guess, measured].map((value) => Number(String(value).replace(",", ".")));
    const agree = numbers.every(Number.isFinite)
      ? Math.abs(numbers[0] - numbers[1]) <= Number(allowed ?? TOLERANCE) + 1e-9
      : guess.trim() === measured;
    return { measured, agree };
  };

  const reveal = (cell) => {
    cell.classList.add("answered");
    for (const sibling of after(cell)) {
      sibling.removeAttribute("hidden");
      if (sibling.matches(".tag_prediction:not(.answered)")) { conceal(sibling); break; }
    }
  };

  const conceal = (cell) => {
    for (const sibling of after(cell)) sibling.setAttribute("hidden", "until-found");
  };

  const commit = (cell, guess, { again = false } = {}) => {
    const pre = verdictOf(cell);
    const { measured, agree } = judge(guess, pre.textContent);
    const verdict = agree ? "as you said" : "not this time";
    pre.textContent = pre.textContent
      .replace(/your guess: .*/, `your guess: ${guess}`)
      .replace(/^(as you said|not this time)$/m, verdict);
    const status = cell.querySelector(".prediction-form");
    const said = document.createElement("p");
    said.className = `prediction-verdict ${agree ? "right" : "wrong"}`;
    said.setAttribute("role", "status");
    said.textContent = `You said ${guess}. Measured: ${measured}. ${agree ? "As you said." : "Not this time."}`;
    status.replaceWith(said);
    said.tabIndex = -1;
    if (!again) said.focus({ preventScroll: true });
    reveal(cell);
    remember(cell, guess);
  };

  const show = (cell) => {
    cell.querySelector(".prediction-form")?.remove();
    reveal(cell);
  };

  const skip = (cell) => {
    show(cell);
    remember(cell, null);
  };

  // How the reader did, where the chapter says what can be said now.
  const count = () => {
    const place = document.querySelector("#what-you-can-say-now");
    const right = cells.filter((cell) => cell.querySelector(".prediction-verdict.right")).length;
    const wrong = cells.filter((cell) => cell.querySelector(".prediction-verdict.wrong")).length;
    const made = right + wrong;
    let tally = document.querySelector(".prediction-tally");
    if (!place || !made) { tally?.remove(); return; }
    if (!tally) {
      tally = document.createElement("p");
      tally.className = "prediction-tally";
      tally.innerHTML = '<span role="status"></span> <button type="button" class="plain">Guess again from the start</button>';
      tally.querySelector("button").addEventListener("click", () => {
        store.set(page, "{}");
        location.reload();
      });
      place.append(tally);
    }
    const open = cells.length - made;
    tally.firstElementChild.textContent =
      `Of your ${made} ${made === 1 ? "guess" : "guesses"} in this chapter, ${right} came out as you said; ${open} you have not made.`;
  };

  const showAll = () => {
    store.set("predictions", "shown");
    press("shown");
    cells.filter((cell) => !cell.classList.contains("answered")).forEach(show);
  };

  // The switch at the top of the page; its choice is kept for all pages.
  const buttons = [...document.querySelectorAll(".prediction-switch button")];
  const press = (choice) => {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.value === choice));
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      if (button.value === "shown") return showAll();
      store.set("predictions", "asked");
      location.reload();
    });
  }
  press(store.get("predictions") === "shown" ? "shown" : "asked");

  const build = (cell) => {
    const { hint, choices } = question(cell);
    const form = document.createElement("form");
    form.className = "prediction-form";
    const fields = choices.length
      ? choices.map((choice) => `<label><input type="radio" name="guess" required value="${choice}"> ${choice}</label>`).join("")
      : `<label>${hint} <input type="text" name="guess" inputmode="decimal" pattern="\\s*[\\-−]?[0-9.,]+\\s*" title="a number" size="6" required autocomplete="off"></label>`;
    form.innerHTML = `<fieldset><legend>Your guess</legend><div class="choices">${fields}</div></fieldset>
      <div class="buttons"><button type="submit">Show what happens</button>
      <button type="button" class="plain skip">Skip</button>
      <button type="button" class="plain all" title="here and on all pages">Show all</button></div>`;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      commit(cell, form.elements.guess.value.trim().replace("−", "-").replace(",", "."));
    });
    form.querySelector(".skip").addEventListener("click", () => skip(cell));
    form.querySelector(".all").addEventListener("click", showAll);
    cell.append(form);
    for (const sibling of after(cell)) sibling.addEventListener("beforematch", () => show(cell));
  };

  if (store.get("predictions") === "shown") {
    cells.forEach((cell) => cell.classList.add("answered"));
  } else {
    cells.forEach(build);
    cells.forEach(conceal);
    for (const cell of cells) {
      const said = guesses[keyOf(cell)];
      if (typeof said === "string" && verdictOf(cell)) commit(cell, said, { again: true });
      else if (said === null) show(cell);
    }
  }
  const target = () => location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  // A link into a concealed part must lead somewhere.
  const open = () => {
    const hidden = target() && target().closest("[hidden]");
    if (hidden) cells.filter((cell) => after(cell).includes(hidden)).forEach(show);
  };
  // Who comes from elsewhere to a section wants its answer, not its quiz.
  const arrive = () => {
    if (!target()) return;
    const section = target().closest("section section");
    cells.filter((cell) => section?.contains(cell) && !cell.classList.contains("answered")).forEach(show);
    target().scrollIntoView();
  };
  addEventListener("hashchange", open);
  open();
  arrive();
})();
