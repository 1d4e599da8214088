"use strict";
(() => {
  const root = document.documentElement, body = document.body;
  const get = (id) => document.getElementById(id);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const scheme = get("scheme");
  const isDark = () => root.dataset.scheme ? root.dataset.scheme === "dark" : dark.matches;
  const nameScheme = () => { scheme.textContent = isDark() ? "Light" : "Dark"; };
  scheme.hidden = false;
  nameScheme();
  dark.addEventListener("change", nameScheme);
  scheme.addEventListener("click", () => { root.dataset.scheme = isDark() ? "light" : "dark"; nameScheme(); });

  const cards = get("cards");
  if (!cards) { return; }
  const all = [...cards.children];
  const radios = [...document.querySelectorAll("input[name=view]")];
  const views = radios.map((radio) => radio.value);
  const large = get("large"), stage = get("large-stage");
  const setView = (view) => {
    body.dataset.view = large.dataset.view = view;
    for (const radio of radios) { radio.checked = radio.value === view; }
    for (const button of get("large-views").children) {
      button.setAttribute("aria-pressed", String(button.dataset.view === view));
    }
    if (large.open) { fit(); }
  };
  for (const radio of radios) { radio.addEventListener("change", () => setView(radio.value)); }
  const strength = get("strength");
  if (strength) {
    strength.addEventListener("input", () => root.style.setProperty("--strength", strength.value / 100));
  }
  const order = get("order"), find = get("find"), found = get("found");
  order.addEventListener("change", () => {
    const place = (card) => JSON.parse(card.dataset.order)[order.value];
    cards.append(...all.sort((a, b) => place(a) - place(b)));
  });
  find.addEventListener("input", () => {
    const wanted = find.value.toLowerCase();
    let count = 0;
    for (const card of all) {
      card.hidden = !card.dataset.name.toLowerCase().includes(wanted);
      count += !card.hidden;
    }
    found.textContent = wanted ? `${count} of ${all.length} images` : "";
  });

  // One image, large.
  let current = null, zoom = 1, x = 0, y = 0, fitted = 1, inner = null;
  const shown = () => all.filter((card) => !card.hidden && card.querySelector(".stage"));
  const place = () => { inner.style.transform = `translate(${x}px, ${y}px) scale(${zoom})`; };
  const fit = () => {
    if (!inner) { return; }
    inner.style.transform = "none";
    const width = inner.offsetWidth, height = inner.offsetHeight;
    zoom = fitted = Math.min(stage.clientWidth / width, stage.clientHeight / height);
    x = (stage.clientWidth - zoom * width) / 2;
    y = (stage.clientHeight - zoom * height) / 2;
    place();
  };
  const zoomBy = (factor, atX, atY) => {
    const box = inner.getBoundingClientRect();
    const next = Math.min(Math.max(zoom * factor, fitted / 2), 40);
    const midX = atX ?? stage.getBoundingClientRect().left + stage.clientWidth / 2;
    const midY = atY ?? stage.getBoundingClientRect().top + stage.clientHeight / 2;
    x -= (midX - box.left) * (next / zoom - 1);
    y -= (midY - box.top) * (next / zoom - 1);
    zoom = next;
    place();
  };
  const show = (card) => {
    current = card;
    get("large-name").textContent = card.dataset.name;
    const list = shown();
    get("large-place").textContent = `${list.indexOf(card) + 1} of ${list.length}`;
    inner = document.createElement("div");
    const images = [...card.querySelectorAll(".stage img")];
    for (const image of images) {
      const copy = image.cloneNode();
      copy.draggable = false;
      inner.append(copy);
    }
    const width = Number(images[0].getAttribute("width")), height = Number(images[0].getAttribute("height"));
    for (const copy of inner.children) { copy.style.width = `${width}px`; copy.style.height = `${height}px`; }
    stage.replaceChildren(inner);
    get("large-told").replaceChildren(...[...card.querySelectorAll(".told, .note")].map((part) => part.cloneNode(true)));
    if (!large.open) { large.dataset.view = body.dataset.view; large.showModal(); }
    fit();
  };
  const step = (by) => {
    const list = shown(), index = list.indexOf(current);
    show(list[(index + by + list.length) % list.length]);
  };
  views.forEach((view, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.view = view;
    button.textContent = radios[index].parentElement.textContent.trim();
    button.setAttribute("aria-pressed", String(view === body.dataset.view));
    button.addEventListener("click", () => setView(view));
    get("large-views").append(button, " ");
  });
  cards.addEventListener("click", (event) => {
    const button = event.target.closest("button.stage");
    if (button) { show(button.closest(".card")); }
  });
  get("previous").addEventListener("click", () => step(-1));
  get("next").addEventListener("click", () => step(1));
  get("larger").addEventListener("click", () => zoomBy(1.5));
  get("smaller").addEventListener("click", () => zoomBy(1 / 1.5));
  get("fit").addEventListener("click", fit);
  get("close").addEventListener("click", () => large.close());
  large.addEventListener("close", () => {
    const button = current.querySelector(".stage");
    current.scrollIntoView({ block: "nearest" });
    button.focus();
  });
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomBy(event.deltaY < 0 ? 1.2 : 1 / 1.2, event.clientX, event.clientY);
  }, { passive: false });
  stage.addEventListener("pointerdown", (event) => {
    stage.setPointerCapture(event.pointerId);
    const from = { x: event.clientX - x, y: event.clientY - y };
    const move = (next) => { x = next.clientX - from.x; y = next.clientY - from.y; place(); };
    stage.addEventListener("pointermove", move);
    stage.addEventListener("pointerup", () => stage.removeEventListener("pointermove", move), { once: true });
    stage.addEventListener("pointercancel", () => stage.removeEventListener("pointermove", move), { once: true });
  });
  addEventListener("resize", () => { if (large.open) { fit(); } });
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) { return; }
    if (!large.open) {
      if (event.target.matches("input, select, textarea")) { return; }
      const index = Number(event.key) - 1;
      if (views[index]) { setView(views[index]); }
      const stages = shown().map((card) => card.querySelector(".stage"));
      const at = stages.indexOf(document.activeElement);
      if (at >= 0 && (event.key === "ArrowRight" || event.key === "ArrowLeft")) {
        event.preventDefault();
        const to = stages[at + (event.key === "ArrowRight" ? 1 : -1)];
        if (to) { to.focus(); }
      }
      return;
    }
    const acts = { ArrowRight: () => step(1), ArrowLeft: () => step(-1), "+": () => zoomBy(1.5), "=": () => zoomBy(1.5),
      "-": () => zoomBy(1 / 1.5), "0": fit };
    const index = Number(event.key) - 1;
    if (acts[event.key]) { event.preventDefault(); acts[event.key](); } else if (views[index]) { setView(views[index]); }
  });
})();
