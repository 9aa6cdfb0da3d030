// What the page does beyond standing there: theme, sorting, filtering, readouts, clips.
// Without it everything is still shown, but for the moving clips. It loads nothing.
"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector, root = document) => root.querySelector(selector);
  const make = (tag, text = "", name = "") => {
    const element = document.createElement(tag);
    element.textContent = text;
    if (name) element.className = name;
    return element;
  };
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  // --- theme: as the system has it, then light, then dark ------------------------------------------

  const theme = one("#theme");
  theme.hidden = false;
  const themes = ["system", "light", "dark"];
  theme.addEventListener("click", () => {
    const now = document.documentElement.dataset.theme ?? "system";
    const next = themes[(themes.indexOf(now) + 1) % themes.length];
    if (next === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    one("span", theme).textContent = next;
  });

  // --- paper: where the numbers come from is printed whole, and put back as it was ------------------

  const sources = all("#provenance details");
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = sources.filter((part) => !part.open);
    for (const part of closed) part.open = true;
  });
  addEventListener("afterprint", () => { for (const part of closed) part.open = false; });

  // --- tables: each section is sorted by itself; what was not measured stays below ------------------

  const sort = (table, column, direction) => {
    const sign = direction === "ascending" ? 1 : -1;
    const key = (row) => {
      const value = row.cells[column].dataset.v;
      return value === undefined ? null : Number.isNaN(+value) ? value : +value;
    };
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return sign * (typeof x === "number" && typeof y === "number" ? x - y : `${x}`.localeCompare(`${y}`));
    };
    for (const body of table.tBodies) {
      const [head, ...rows] = body.rows;
      body.replaceChildren(head, ...rows.sort(compare));
    }
    all("thead th", table).forEach((th, n) => th.setAttribute("aria-sort", n === column ? direction : "none"));
  };
  for (const table of all("table.sortable")) {
    for (const button of all("thead button", table)) {
      button.addEventListener("click", () => {
        const first = button.dataset.first ?? "ascending";
        const other = first === "ascending" ? "descending" : "ascending";
        const now = button.parentElement.getAttribute("aria-sort");
        sort(table, +button.dataset.column, now === first ? other : first);
      });
    }
  }

  for (const board of all(".boardpage")) {
    const filter = one(".filter", board);
    filter.hidden = false;
    const apply = () => {
      const text = one("input[type=search]", filter).value.trim().toLowerCase();
      const kinds = new Set(all("input:checked", filter).map((box) => box.value));
      const shown = new Set();
      for (const row of all("tr[data-kind]", board)) {
        row.hidden = !(kinds.has(row.dataset.kind) && row.dataset.name.toLowerCase().includes(text));
        if (!row.hidden) shown.add(row.dataset.name);
      }
      for (const body of all(".sortable tbody", board)) {
        body.hidden = all("tr[data-kind]", body).every((row) => row.hidden);
      }
      const total = new Set(all("tr[data-kind]", board).map((row) => row.dataset.name)).size;
      one("[role=status]", filter).textContent = `${shown.size} of ${total} rows`;
    };
    filter.addEventListener("input", apply);
  }

  // --- legends: a name switches its marks on and off in all charts of its section -------------------

  for (const button of all(".legend button")) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      const section = button.closest("section");
      const same = `[data-series="${button.dataset.series}"]`;
      for (const mark of all(`svg ${same}`, section)) mark.classList.toggle("off", !on);
      for (const other of all(`.legend button${same}`, section)) other.setAttribute("aria-pressed", `${on}`);
    });
  }

  // --- readouts: the numbers under the pointer, or where the arrow keys are -------------------------

  const readout = (plot) => {
    const box = make("div", "", "readout");
    const cursor = make("div", "", "cursor");
    box.setAttribute("role", "status");
    box.hidden = cursor.hidden = true;
    plot.append(cursor, box);
    plot.tabIndex = 0;
    const hide = () => { box.hidden = cursor.hidden = true; };
    plot.addEventListener("pointerleave", hide);
    plot.addEventListener("blur", hide);
    plot.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
    // The plot's rectangle on the screen, relative to the element: the drawing may be scaled.
    const frame = () => {
      const picture = all(".picture", plot).find((p) => p.offsetParent !== null);
      const svg = one("svg", picture);
      const [left, top, width, height] = picture.dataset.box.split(" ").map(Number);
      const outer = plot.getBoundingClientRect(), inner = svg.getBoundingClientRect();
      const scale = inner.width / svg.viewBox.baseVal.width;
      return {
        left: inner.left - outer.left + left * scale, top: inner.top - outer.top + top * scale,
        width: width * scale, height: height * scale,
      };
    };
    const place = (x, y, area) => {
      box.hidden = cursor.hidden = false;
      const room = document.documentElement.clientWidth - plot.getBoundingClientRect().left;
      const right = x + 14 + box.offsetWidth;
      const left = right < Math.max(room - 8, area.left + area.width) ? x + 14 : x - 14 - box.offsetWidth;
      box.style.left = `${clamp(left, 0, Math.max(0, room - box.offsetWidth - 8))}px`;
      box.style.top = `${clamp(y - box.offsetHeight / 2, area.top, area.top + area.height)}px`;
    };
    return { box, cursor, frame, place };
  };

  const steer = (plot, count, show) => {
    let at = -1;
    plot.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      at = at < 0 ? 0 : clamp(at + step, 0, count - 1);
      show(at);
    });
    return (n) => { at = n; };
  };

  const readLines = (plot) => {
    const chart = plot.closest(".chart");
    const table = one(".numbers table", chart);
    const columns = plot.dataset.columns.split(" ").map(Number);
    const rows = [...table.tBodies[0].rows].filter((row) => columns.some((c) => row.cells[c].dataset.v));
    const heads = table.tHead.rows[0].cells;
    const [low, high] = plot.dataset.x.split(" ").map(Number);
    const { box, cursor, frame, place } = readout(plot);
    const legend = chart.closest("details.rest") ?? chart;
    const off = (series) => one(`.legend button[data-series="${series}"][aria-pressed="false"]`, legend);
    const show = (n, y = null) => {
      const area = frame(), x = +rows[n].cells[0].dataset.v;
      const seen = columns
        .filter((c) => rows[n].cells[c].dataset.v && !off(heads[c].dataset.series))
        .sort((a, b) => rows[n].cells[b].dataset.v - rows[n].cells[a].dataset.v);
      const list = document.createElement("table");
      for (const c of seen) {
        const line = list.insertRow();
        line.insertCell().textContent = heads[c].textContent;
        line.insertCell().textContent = rows[n].cells[c].textContent;
      }
      box.replaceChildren(make("b", `${heads[0].textContent} ${rows[n].cells[0].textContent}`), list);
      const left = area.left + ((x - low) / (high - low)) * area.width;
      Object.assign(cursor.style, { left: `${left}px`, top: `${area.top}px`, height: `${area.height}px` });
      place(left, y ?? area.top + area.height / 2, area);
    };
    const moved = steer(plot, rows.length, show);
    plot.addEventListener("pointermove", (event) => {
      const area = frame(), outer = plot.getBoundingClientRect();
      const x = low + ((event.clientX - outer.left - area.left) / area.width) * (high - low);
      const distance = rows.map((row) => Math.abs(row.cells[0].dataset.v - x));
      const n = distance.indexOf(Math.min(...distance));
      moved(n);
      show(n, event.clientY - outer.top);
    });
  };

  const readSpots = (plot) => {
    const spots = JSON.parse(plot.dataset.spots);
    const { box, cursor, frame, place } = readout(plot);
    cursor.classList.add("spot");
    const at = (n, area) => [area.left + spots[n][0] * area.width, area.top + spots[n][1] * area.height];
    const show = (n) => {
      const area = frame(), [x, y] = at(n, area);
      box.textContent = spots[n][2];
      Object.assign(cursor.style, { left: `${x}px`, top: `${y}px` });
      place(x, y, area);
    };
    const moved = steer(plot, spots.length, show);
    plot.addEventListener("pointermove", (event) => {
      const area = frame(), outer = plot.getBoundingClientRect();
      const distance = spots.map((_, n) => {
        const [x, y] = at(n, area);
        return Math.hypot(event.clientX - outer.left - x, event.clientY - outer.top - y);
      });
      const n = distance.indexOf(Math.min(...distance));
      moved(n);
      show(n);
    });
  };
  all(".plot[data-columns]").forEach(readLines);
  all(".plot[data-spots]").forEach(readSpots);

  // --- clips: all rows play the same frame; what has ended stands still, paler -----------------------

  const player = one(".player");
  if (!player) return;
  const data = JSON.parse(one("#clips").textContent);
  const [play, slider, counter] = [one("#play"), one("#frame"), one("#counter")];
  const tiles = all(".tile", player);
  let shown = [], now = 0, timer = 0, started = 0, from = 0;
  player.hidden = false;

  const sheet = (clip) => {
    const image = new Image();
    image.src = clip.source;
    const draw = (context, frame) => {
      const n = Math.floor(frame / clip.every);
      const x = (n % clip.across) * clip.width, y = Math.floor(n / clip.across) * clip.height;
      context.drawImage(image, x, y, clip.width, clip.height, 0, 0, clip.width, clip.height);
    };
    return { ready: image.decode(), draw, frames: clip.frames };
  };

  // A film is not played but sought: it shows the frame that all others show, however slow it is.
  const film = (clip, context) => {
    const video = document.createElement("video");
    Object.assign(video, { muted: true, playsInline: true, preload: "auto", src: clip.source });
    const ready = new Promise((done, failed) => {
      video.addEventListener("loadeddata", done, { once: true });
      video.addEventListener("error", () => failed(video.error), { once: true });
    });
    let wanted = -1;
    const seek = () => { video.currentTime = ((wanted + 0.5) * clip.every) / data.fps; };
    video.addEventListener("seeked", () => {
      context.drawImage(video, 0, 0, clip.width, clip.height);
      if (Math.abs(video.currentTime - ((wanted + 0.5) * clip.every) / data.fps) > 0.5 / data.fps) seek();
    });
    const draw = (_, frame) => {
      const n = Math.floor(frame / clip.every);
      if (n === wanted) return;
      wanted = n;
      if (!video.seeking) seek();
    };
    return { ready, draw, frames: clip.frames };
  };

  const show = (frame) => {
    now = clamp(frame, 0, data.frames - 1);
    slider.value = now;
    const horizons = data.native ? `, ${((now + 1) / data.native).toFixed(1)}× native` : "";
    counter.textContent = `frame ${now + 1} of ${data.frames}${horizons}`;
    slider.setAttribute("aria-valuetext", counter.textContent);
    shown.forEach((clip, n) => {
      tiles[n].hidden = !clip;
      if (!clip) return;
      tiles[n].classList.toggle("ended", now >= clip.frames);
      clip.draw(one("canvas", tiles[n]).getContext("2d"), Math.min(now, clip.frames - 1));
    });
  };

  const pause = () => {
    cancelAnimationFrame(timer);
    timer = 0;
    play.textContent = "Play";
    play.setAttribute("aria-pressed", "false");
  };
  const tick = (time) => {
    const passed = ((time - started) / 1000) * data.fps * +one("#speed").value;
    const frame = (from + Math.floor(passed)) % data.frames;
    if (frame !== now) show(frame);
    timer = requestAnimationFrame(tick);
  };
  const start = () => {
    pause();
    started = performance.now();
    from = now >= data.frames - 1 ? 0 : now;
    play.textContent = "Pause";
    play.setAttribute("aria-pressed", "true");
    timer = requestAnimationFrame(tick);
  };

  const choose = async (n) => {
    shown = data.scenes[n].map((clip, k) => {
      if (!clip) return null;
      const canvas = one("canvas", tiles[k]);
      [canvas.width, canvas.height] = [clip.width, clip.height];
      return clip.kind === "sheet" ? sheet(clip) : film(clip, canvas.getContext("2d"));
    });
    for (const scene of all(".scene")) scene.hidden = +scene.dataset.scene !== n;
    await Promise.all(shown.filter(Boolean).map((clip) => clip.ready));
    show(now);
    player.dataset.ready = n;
  };

  play.addEventListener("click", () => (timer ? pause() : start()));
  slider.addEventListener("input", () => { pause(); show(+slider.value); });
  one("#back").addEventListener("click", () => { pause(); show(now - 1); });
  one("#forth").addEventListener("click", () => { pause(); show(now + 1); });
  one("#scene").addEventListener("change", (event) => choose(+event.target.value));
  one("#speed").addEventListener("change", () => { if (timer) start(); });
  for (let n = 1; data.native && n * data.native <= data.frames; n += 1) {
    const mark = make("span", `${n}×`);
    mark.style.left = `${(100 * (n * data.native - 1)) / Math.max(1, data.frames - 1)}%`;
    if (data.frames / data.native <= 12 || n % Math.ceil(data.frames / data.native / 8) === 0) one(".horizons").append(mark);
  }

  // Plays by itself, once it is in view, only for those who do not mind motion.
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const watcher = new IntersectionObserver((seen) => {
    if (!seen.some((entry) => entry.isIntersecting)) return;
    watcher.disconnect();
    if (!still.matches && !timer) start();
  }, { threshold: 0.4 });
  choose(0).then(() => watcher.observe(one(".tiles")));
})();
