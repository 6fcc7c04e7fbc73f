// Search with Pagefind's index, over http and when the book is opened from a folder.
(() => {
  // From this script's own address: the 404 page is served under any path.
  const root = new URL("..", document.currentScript.src).href;
  const isFolder = location.protocol === "file:";
  let pagefind;

  // A browser reads no files from a folder but scripts: all files of the index are in one.
  const fromFolder = async () => {
    await new Promise((resolve, reject) => {
      const script = document.createElement("script");
      Object.assign(script, { src: `${root}pagefind/folder.js`, onload: resolve, onerror: reject });
      document.head.append(script);
    });
    const files = globalThis.bookSearchFiles;
    const bytes = (name) => Uint8Array.from(atob(files[name]), (letter) => letter.charCodeAt(0));
    const usual = globalThis.fetch;
    globalThis.fetch = async (address, options) => {
      const name = String(address).split("/pagefind/")[1]?.split("?")[0];
      return name in files ? new Response(bytes(name)) : usual(address, options);
    };
    const code = new Blob([bytes("pagefind.js")], { type: "text/javascript" });
    return import(URL.createObjectURL(code));
  };

  // Fetched at the first search only: readers who do not search pay nothing.
  const load = async () => {
    const module = await (isFolder ? fromFolder() : import(`${root}pagefind/pagefind.js`));
    const place = { basePath: `${root}pagefind/`, baseUrl: new URL(root).pathname, noWorker: true };
    await module.options({ excerptLength: 24, ...(isFolder ? place : {}) });
    await module.init();
    return module;
  };

  // All words first; when that finds little, the same question with one word left out,
  // since a reader's phrase often has one word that the page does not use.
  const find = async (question) => {
    pagefind ??= load();
    const engine = await pagefind;
    const scores = new Map();
    const add = (results, weight) => {
      for (const result of results) {
        const known = scores.get(result.id);
        scores.set(result.id, { result, score: (known?.score ?? 0) + weight * result.score });
      }
    };
    add((await engine.search(question)).results, 1000);
    const words = question.split(/\s+/).filter(Boolean);
    if (scores.size < 3 && words.length > 1 && words.length < 13) {
      for (const left of words) {
        add((await engine.search(words.filter((word) => word !== left).join(" "))).results, 1);
      }
    }
    if (scores.size < 3) {
      for (const word of words) {
        const { results } = await engine.search(word);
        add(results, 0.1 / Math.max(1, results.length)); // a rare word says more
      }
    }
    const best = [...scores.values()].sort((a, b) => b.score - a.score).slice(0, 8);
    const sections = await Promise.all(best.map(({ result }) => result.data()));
    // Pagefind stems, and for an unknown word falls back to ever shorter beginnings of it, down to
    // one letter: a section counts only if it has most of some word of the question.
    const stems = words.map((word) => word.toLowerCase().slice(0, Math.max(3, word.length - 3)));
    const has = (section) => stems.some((stem) => section.content.toLowerCase().includes(stem));
    return sections.filter(has);
  };

  globalThis.bookSearch = find; // for the tests

  const show = (box, sections) => {
    const items = sections.map((section) => {
      const item = document.createElement("li");
      const link = document.createElement("a");
      link.href = section.url;
      const { title, page } = section.meta;
      link.textContent = title === page ? title : `${page}: ${title}`;
      const excerpt = document.createElement("p");
      excerpt.innerHTML = section.excerpt; // Pagefind escapes the text and adds <mark>
      item.append(link, excerpt);
      return item;
    });
    const list = document.createElement("ol");
    list.append(...items);
    box.replaceChildren(items.length ? list : "Nothing found.");
  };

  for (const form of document.querySelectorAll("form.bd-search")) {
    const input = form.elements.q;
    const box = form.parentElement.querySelector(".book-search-results");
    let asked = 0;
    const search = async () => {
      const mine = ++asked;
      const question = input.value.trim();
      await new Promise((resolve) => setTimeout(resolve, 200));
      if (mine !== asked) return;
      if (question.length < 2) return box.replaceChildren();
      const sections = await find(question);
      if (mine === asked) show(box, sections);
    };
    input.addEventListener("input", search);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      search();
    });
  }

  const field = document.querySelector(".bd-search-container input[name=q]");
  if (!field) return;
  field.value = new URLSearchParams(location.search).get("q") ?? "";
  field.focus();
  field.dispatchEvent(new Event("input"));
})();
