"use strict";
(() => {
  const content = JSON.parse(document.getElementById("content").textContent);
  const places = [...document.querySelectorAll(".chart")];
  const drawings = new Map();
  // What the sliders say, for charts that are drawn after one was moved.
  const audiences = new Map();

  const options = {
    mode: "vega-lite",
    renderer: "svg",
    actions: false,
    // Expressions are interpreted: the page's policy allows no code made of text.
    ast: true,
    config: content.theme,
    defaultStyle: false,
    tooltip: { theme: "page", disableDefaultStyle: true },
  };

  function draw(place) {
    if (!drawings.has(place.id)) {
      drawings.set(place.id, vegaEmbed(place, content.charts[place.id], options).then(async ({ view }) => {
        if (audiences.has(place.id)) await view.signal("audience", audiences.get(place.id)).runAsync();
        return view;
      }).catch((error) => {
        place.classList.add("failed");
        console.error(error);
      }));
    }
    return drawings.get(place.id);
  }

  // Those in sight first, the others whenever there is time, so that paper has all of them.
  const sight = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        sight.unobserve(entry.target);
        draw(entry.target);
      }
    }
  }, { rootMargin: "400px" });
  places.forEach((place) => sight.observe(place));

  const whenIdle = window.requestIdleCallback ?? ((work) => setTimeout(work, 1));
  const later = () => new Promise((done) => whenIdle(done, { timeout: 500 }));
  async function drawAll() {
    for (const place of places) {
      await later();
      await draw(place);
    }
    document.documentElement.dataset.drawn = "all";
  }
  if (document.readyState === "complete") drawAll();
  else addEventListener("load", drawAll);

  for (const panel of document.querySelectorAll("[data-slider]")) {
    const { charts, choices } = content.sliders[panel.id];
    const range = panel.querySelector("input");
    const choice = panel.querySelector("select");
    const names = ["share", "size", "expected", "precision", "interval", "lift", "gain", "note"];
    const say = (name, text) => {
      for (const output of panel.querySelectorAll(`[data-output="${name}"]`)) {
        if (output.textContent !== text) output.textContent = text;
      }
    };
    const show = () => {
      const { of, about, steps } = choices[choice?.value ?? 0];
      const step = steps[range.value - 1];
      names.forEach((name, at) => say(name, step[at]));
      say("of", of);
      say("about", about);
      range.setAttribute("aria-valuetext", step[names.length]);
      range.style.setProperty("--filled", `${(100 * (range.value - range.min)) / (range.max - range.min)}%`);
      for (const id of charts) {
        audiences.set(id, range.value / 100);
        drawings.get(id)?.then((view) => view?.signal("audience", audiences.get(id)).runAsync());
      }
    };
    range.addEventListener("input", show);
    choice?.addEventListener("input", show);
    show();
  }

  // Paper can't be clicked: every table is open on it, and as it was afterwards.
  const folded = [];
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details:not([open])")) {
      folded.push(details);
      details.open = true;
    }
  });
  addEventListener("afterprint", () => {
    for (const details of folded.splice(0)) details.open = false;
  });
})();
