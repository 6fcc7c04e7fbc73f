// Explorers: small experiments that run in the page. Each takes the place of the static table that
// stands in its <div class="explorer" data-explorer="…">; the table stays, folded, below it.
// The arithmetic is in `formulas`, which tests/test_site.py compares with PyTorch.
(() => {
  const formulas = {
    // Dropout: the two values that one unit can take, and the deviation of one draw.
    dropout: (p, x) => ({ survivor: x / (1 - p), deviation: Math.abs(x) * Math.sqrt(p / (1 - p)) }),
    // Batches until a share of the way is covered at a momentum.
    batchesToCover: (share, momentum) =>
      momentum >= 1 ? 1 : Math.ceil(Math.log(1 - share) / Math.log(1 - momentum) - 1e-9),
    runningMean: (means, momentum, start = 0) => {
      let running = start;
      return means.map((mean) => (running = (1 - momentum) * running + momentum * mean));
    },
    // Spread of the running mean in the long run, for batch means of deviation `spread`.
    tremble: (spread, momentum) => spread * Math.sqrt(momentum / (2 - momentum)),
    normalise: (values, eps = 1e-5) => {
      const mean = values.reduce((a, b) => a + b) / values.length;
      const variance = values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length;
      return values.map((value) => (value - mean) / Math.sqrt(variance + eps));
    },
    switches: (mode, gradients) => ({
      noisy: mode === "train",
      moves: mode === "train",
      graph: gradients === "grad",
      memory: gradients === "grad",
      barred: gradients === "inference",
    }),
    means: (losses, sizes) => ({
      ofMeans: losses.reduce((a, b) => a + b) / losses.length,
      overSamples: losses.reduce((a, loss, i) => a + loss * sizes[i], 0) / sizes.reduce((a, b) => a + b),
    }),
    // Calibration of scores that are divided by a temperature; ten bins of confidence.
    calibration: (scores, labels, temperature) => {
      const bins = Array.from({ length: 10 }, () => ({ count: 0, confidence: 0, right: 0 }));
      let loss = 0;
      scores.forEach((row, i) => {
        const top = Math.max(...row);
        const weights = row.map((score) => Math.exp((score - top) / temperature));
        const sum = weights.reduce((a, b) => a + b);
        const bin = bins[Math.min(9, Math.max(0, Math.ceil(10 / sum) - 1))];
        bin.count += 1;
        bin.confidence += 1 / sum;
        bin.right += row[labels[i]] === top;
        loss -= Math.log(weights[labels[i]] / sum);
      });
      const total = (key) => bins.reduce((sum, bin) => sum + bin[key], 0) / scores.length;
      const gaps = bins.reduce((sum, bin) => sum + Math.abs(bin.confidence - bin.right), 0);
      return { bins, confidence: total("confidence"), right: total("right"), ece: gaps / scores.length, loss: loss / scores.length };
    },
  };
  window.bookFormulas = formulas;

  // The same numbers at each visit.
  const random = (seed) => () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const normal = (uniform) => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  const fixed = (value, digits = 2) => value.toFixed(digits).replace("-", "−");

  const slider = (name, label, min, max, step, value) =>
    `<label>${label} <output></output><input type="range" name="${name}" min="${min}" max="${max}" step="${step}" value="${value}"></label>`;
  const radios = (name, legend, options) =>
    `<fieldset><legend>${legend}</legend>${Object.entries(options).map(([value, label], i) =>
      `<label><input type="radio" name="${name}" value="${value}"${i ? "" : " checked"}> ${label}</label>`).join("")}</fieldset>`;
  const badge = (mode, text = `${mode} mode`) => `<span class="mode ${mode}">${text}</span>`;
  const path = (values, x, y) => values.map((v, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(v).toFixed(1)}`).join("");
  const chart = (title, body, height = 180) =>
    `<svg viewBox="0 0 600 ${height}" role="img" aria-label="${title}">${body}</svg>`;

  const explorers = {
    dropout: {
      title: "One unit under dropout, its input is 1",
      controls: slider("p", "p =", 0, 0.95, 0.05, 0.5) + radios("mode", "mode", { train: "train", eval: "eval" }) +
        '<button type="button" name="more">Draw 50 more</button>',
      state: () => ({ uniform: random(1), draws: Array.from({ length: 50 }, random(7)) }),
      press: (state) => { for (let i = 0; i < 50; i++) state.draws.push(state.uniform()); },
      show: ({ p, mode }, state) => {
        const { survivor, deviation } = formulas.dropout(+p, 1);
        const outputs = state.draws.map((u) => (mode === "eval" ? 1 : u < p ? 0 : survivor));
        let sum = 0;
        const running = outputs.map((value, i) => (sum += value) / (i + 1));
        const top = Math.max(2.2, survivor * 1.1);
        const x = (i) => 40 + (i * 540) / Math.max(1, outputs.length - 1);
        const y = (v) => 160 - (v / top) * 145;
        const dots = outputs.map((v, i) => `<circle cx="${x(i).toFixed(1)}" cy="${y(v).toFixed(1)}" r="2.5" class="${mode}"/>`).join("");
        const axis = [0, 1, ...(mode === "train" && survivor > 1.3 ? [survivor] : [])]
          .map((v) => `<text x="34" y="${y(v) + 4}" text-anchor="end">${+v.toFixed(2)}</text>`).join("");
        return {
          drawing: chart(`Outputs of ${outputs.length} draws and their running mean`,
            `<path class="truth" d="M40 ${y(1)}H580"/>${dots}<path class="other line" d="${path(running, x, y)}"/>${axis}`),
          says: mode === "eval"
            ? `${badge("eval")} every output is 1; the mean is 1, the deviation 0.`
            : `${badge("train")} outputs are 0 or ${fixed(survivor)}; the mean of ${outputs.length} draws (line) is ${fixed(running.at(-1))}, the deviation of one draw ${fixed(deviation)}.`,
        };
      },
    },
    "running-mean": {
      title: "The running mean of a batch norm, data around 5 with deviation 3",
      controls: slider("momentum", "momentum =", 0.01, 1, 0.01, 0.1) + slider("size", "batch size =", 2, 128, 2, 16),
      show: ({ momentum, size }) => {
        const uniform = random(3);
        const spread = 3 / Math.sqrt(size);
        const means = Array.from({ length: 100 }, () => 5 + spread * normal(uniform));
        const running = [0, ...formulas.runningMean(means, +momentum)];
        const x = (i) => 40 + i * 5.4;
        const y = (v) => 165 - v * 20;
        const dots = means.map((m, i) => `<circle cx="${x(i + 1).toFixed(1)}" cy="${y(m).toFixed(1)}" r="2" class="train"/>`).join("");
        return {
          drawing: chart("Means of a hundred batches and the running mean",
            `<path class="truth" d="M40 ${y(5)}H580"/>${dots}<path class="eval line" d="${path(running, x, y)}"/>
             <text x="34" y="${y(0) + 4}" text-anchor="end">0</text><text x="34" y="${y(5) + 4}" text-anchor="end">5</text>
             <text x="310" y="178" text-anchor="middle">100 batches</text>`),
          says: `Dots: means of batches, used in ${badge("train")}. Line: the running mean, used in ${badge("eval")}. ` +
            `It covers nine tenths of the way in ${formulas.batchesToCover(0.9, +momentum)} batches and then trembles by ${fixed(formulas.tremble(spread, +momentum))}.`,
        };
      },
    },
    neighbours: {
      title: "A batch of four, one feature; the running mean is 0, the running variance 1",
      controls: slider("own", "our value =", -3, 3, 0.5, 1) + slider("middle", "its neighbours lie around", -5, 5, 0.5, 4),
      show: ({ own, middle }) => {
        const batch = [+own, +middle - 1, +middle, +middle + 1];
        const out = formulas.normalise(batch);
        const x = (v) => 300 + v * 45;
        const row = (values, height, kind) => values.map((v, i) =>
          `<circle cx="${x(v).toFixed(1)}" cy="${height}" r="${i ? 6 : 9}" class="${i ? "neighbour" : kind}"/>`).join("");
        const label = (text, height) => `<text x="4" y="${height + 4}">${text}</text><path class="truth" d="M30 ${height + 14}H580"/>`;
        return {
          drawing: chart("Our value and its neighbours before batch norm, after it in train mode and in eval mode",
            label("in", 30) + label("train", 90) + label("eval", 150) + row(batch, 30, "other") + row(out, 90, "train") + row(batch, 150, "eval") +
            `<path class="truth" d="M300 8V170"/>`),
          says: `Our value (large dot): ${badge("train")} makes ${fixed(out[0])} of it, ${badge("eval")} ${fixed(+own)}. Move the neighbours: only one of the two changes.`,
        };
      },
    },
    switchboard: {
      title: "Two switches, six combinations",
      controls: radios("mode", "mode", { train: "model.train()", eval: "model.eval()" }) +
        radios("gradients", "gradients", { grad: "on", no_grad: "torch.no_grad()", inference: "torch.inference_mode()" }),
      show: ({ mode, gradients }) => {
        const effect = formulas.switches(mode, gradients);
        const rows = {
          noisy: ["two calls differ", "mode"],
          moves: ["running statistics move", "mode"],
          graph: ["a graph is recorded", "gradients"],
          memory: ["activations are kept in memory", "gradients"],
          barred: ["the output cannot be saved for a later backward pass", "gradients"],
        };
        const cells = Object.entries(rows).map(([key, [text, by]]) =>
          `<tr><th scope="row">${text}</th><td>${effect[key] ? "yes" : "no"}</td><td>${by}</td></tr>`).join("");
        const use = {
          "train grad": "training", "train no_grad": "re-estimating running statistics, best with dropout in eval mode",
          "train inference": "hardly anything; an evaluation that forgot eval()",
          "eval grad": "saliency, adversarial examples",
          "eval no_grad": "evaluation whose outputs go on into training", "eval inference": "evaluation and serving",
        }[`${mode} ${gradients}`];
        return {
          drawing: `<table><thead><tr><th scope="col">what happens</th><th scope="col">now</th><th scope="col">decided by</th></tr></thead><tbody>${cells}</tbody></table>`,
          says: `${badge(mode)} Good for: ${use}.`,
        };
      },
    },
    "batch-means": {
      title: "Three batches: two of 100 samples with loss 0.1, and a last one",
      controls: slider("size", "samples in the last batch =", 1, 100, 1, 10) + slider("loss", "its loss =", 0, 2, 0.1, 0.7),
      show: ({ size, loss }) => {
        const { ofMeans, overSamples } = formulas.means([0.1, 0.1, +loss], [100, 100, +size]);
        const bar = (name, value, height, kind) =>
          `<text x="150" y="${height + 17}" text-anchor="end">${name}</text><rect x="160" y="${height}" width="${(value * 500).toFixed(1)}" height="24" class="${kind}"/><text x="${(168 + value * 500).toFixed(1)}" y="${height + 17}">${fixed(value)}</text>`;
        return {
          drawing: chart("Mean of batch means and mean over samples", bar("mean of means", ofMeans, 10, "other") + bar("mean over samples", overSamples, 50, "eval"), 86),
          says: `The mean of means is ${fixed(ofMeans)} whatever the last batch's size; over the samples it is ${fixed(overSamples)}, a difference of ${fixed(ofMeans - overSamples)}.`,
        };
      },
    },
    temperature: {
      title: "A model that is too sure: 3,000 answers, three classes",
      controls: slider("temperature", "temperature =", 0.5, 6, 0.1, 1),
      state: () => {
        const uniform = random(5);
        const honest = Array.from({ length: 3000 }, () => Array.from({ length: 3 }, () => 1.5 * normal(uniform)));
        const labels = honest.map((row) => {
          const weights = row.map(Math.exp);
          let left = uniform() * weights.reduce((a, b) => a + b);
          return Math.max(0, weights.findIndex((weight) => (left -= weight) < 0));
        });
        return { scores: honest.map((row) => row.map((score) => 2.4 * score)), labels };
      },
      show: ({ temperature }, { scores, labels }) => {
        const { bins, confidence, right, ece, loss } = formulas.calibration(scores, labels, +temperature);
        const x = (share) => 150 + share * 300;
        const y = (share) => 160 - share * 145;
        const bars = bins.map(({ count, right: hits }, i) => (count ?
          `<rect x="${x(i / 10) + 1}" y="${y(hits / count).toFixed(1)}" width="28" height="${((145 * hits) / count).toFixed(1)}" class="eval"/>` : "")).join("");
        return {
          drawing: chart("Share of right answers by confidence, and the diagonal",
            `${bars}<path class="truth" d="M${x(0)} ${y(0)}L${x(1)} ${y(1)}"/>
             <text x="${x(0) - 6}" y="${y(1) + 4}" text-anchor="end">all right</text><text x="${x(0) - 6}" y="${y(0)}" text-anchor="end">none</text>
             <text x="${x(0.5)}" y="178" text-anchor="middle">confidence, from 0 to 1</text>`),
          says: `Mean confidence ${fixed(confidence)}, right ${fixed(right)}: ECE ${fixed(ece, 3)}, loss ${fixed(loss, 3)}. Bars below the line: too sure. Above it: not sure enough. The share of right answers does not move.`,
        };
      },
    },
  };

  for (const box of document.querySelectorAll(".explorer[data-explorer]")) {
    const { title, controls, state: initial, press, show } = explorers[box.dataset.explorer];
    const state = initial?.();
    const form = document.createElement("form");
    form.className = "explorer-live";
    form.setAttribute("aria-label", `Explorer: ${title}`);
    form.innerHTML = `<p class="explorer-title">${title}</p><div class="controls">${controls}</div><div class="drawing"></div><p class="says" role="status"></p>`;
    const fold = document.createElement("details");
    fold.innerHTML = "<summary>Some of it as a table</summary>";
    fold.append(...box.childNodes);
    const update = () => {
      for (const input of form.querySelectorAll("input[type=range]")) {
        input.previousElementSibling.textContent = fixed(+input.value, input.step.includes(".") ? input.step.split(".")[1].length : 0);
      }
      const { drawing, says } = show(Object.fromEntries(new FormData(form)), state);
      form.querySelector(".drawing").innerHTML = drawing;
      form.querySelector(".says").innerHTML = says;
    };
    form.addEventListener("input", update);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.elements.more?.addEventListener("click", () => { press(state); update(); });
    box.replaceChildren(form, fold);
    update();
  }
})();
