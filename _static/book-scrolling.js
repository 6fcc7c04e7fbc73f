// An equation or a cell wider than its box must be reachable from the keyboard, also one that a
// guess has just revealed; one that fits must not be a stop.
(() => {
  const boxes = document.querySelectorAll(".math-scroll, pre");
  const observer = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  boxes.forEach((box) => observer.observe(box));
})();
