// The live page: asks for a stream, draws its frames at the video's own rate, shows its figures.
// It speaks to the server that it came from, over one WebSocket, and loads nothing.
"use strict";
(() => {
  const one = (selector) => document.querySelector(selector);
  const make = (tag, text = "", name = "") => {
    const element = document.createElement(tag);
    element.textContent = text;
    if (name) element.className = name;
    return element;
  };
  const drawn = (tag, given) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(given)) element.setAttribute(key, value);
    return element;
  };
  const fixed = (value, digits) => value.toFixed(digits).replace(/^-(?=0\.?0*$)/, "").replace("-", "−");
  const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

  // --- theme: as the system has it, then light, then dark -----------------------------------------

  const themes = ["system", "light", "dark"];
  one("#theme").addEventListener("click", () => {
    const root = document.documentElement;
    const next = themes[(themes.indexOf(root.dataset.theme ?? "system") + 1) % themes.length];
    if (next === "system") delete root.dataset.theme;
    else root.dataset.theme = next;
    one("#theme span").textContent = next;
  });

  // --- what is known ------------------------------------------------------------------------------

  const SMALL = 256; // pixels a side up to which a frame is shown as pixels
  const LENGTHS = [10, 30, 60, 120, 300, 600];
  const STRIP = 12; // frames of the strip
  const LATE = 250; // ms behind its time from which a frame moves the times of those after it
  let model = null; // the server's hello
  let state = "connecting"; // ready, queued, running, failed, gone
  let stream = 0; // number of the stream that frames belong to
  let buffer = []; // frames that are decoded and not yet drawn
  let decoding = Promise.resolve();
  let prompts = []; // {frame, text} of this stream
  let due = null; // when the next frame is to be drawn
  let waiting = false; // for a frame that is late
  let late = 0;
  let writing = false; // a recording

  const socket = new WebSocket(`ws://${location.host}/stream`);
  socket.binaryType = "arraybuffer";
  const send = (message) => { if (socket.readyState === 1) socket.send(JSON.stringify(message)); };

  // --- state --------------------------------------------------------------------------------------

  const enter = (next, text) => {
    state = next;
    const busy = next === "running" || next === "queued";
    const status = one("#status");
    status.dataset.state = next;
    status.textContent = text;
    one("#go").textContent = next === "running" ? "Switch prompt" : "Start";
    one("#go").disabled = !(next === "ready" || next === "failed" || (next === "running" && model.switches));
    one("#stop").disabled = !busy;
    for (const field of [one("#seconds"), one("#seed")]) field.disabled = busy;
  };
  const refuse = (text) => {
    one("#refusal").textContent = text;
    one("#refusal").hidden = !text;
    one("#prompt").setAttribute("aria-invalid", text ? "true" : "false");
  };

  const ask = () => {
    if (one("#go").disabled) return;
    refuse("");
    const prompt = one("#prompt").value;
    if (state === "running") return send({ type: "switch", prompt });
    const seconds = Number(one("#seconds").value), seed = Number(one("#seed").value);
    send({ type: "start", prompt, seed, seconds });
  };
  one("#form").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
  one("#prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); ask(); }
  });
  one("#stop").addEventListener("click", () => { buffer = []; stream += 1; send({ type: "stop" }); });
  one("#record").addEventListener("click", () => {
    refuse("");
    one("#record").disabled = writing = true;
    say("Writing the recording.");
    send({ type: "record" });
  });
  const say = (text) => { one("#saved").hidden = !text; one("#saved").textContent = text; };

  // --- what the server says -----------------------------------------------------------------------

  const heard = {
    hello(told) {
      model = told;
      const parts = [told.model, `${told.width} × ${told.height}`, `${told.fps} frames a second`];
      one("#model").textContent = parts.join(" · ");
      one("#about").textContent = [`sfbench ${told.version}`, told.model, told.notes].filter(Boolean).join(" · ");
      screen.width = told.width;
      screen.height = told.height;
      for (const canvas of [screen, strip]) canvas.classList.toggle("small", Math.max(told.width, told.height) <= SMALL);
      const wide = Math.min(96, told.width);
      strip.width = STRIP * wide;
      strip.height = Math.round(wide * told.height / told.width);
      const lengths = [...LENGTHS.filter((seconds) => seconds < told.seconds), told.seconds];
      one("#seconds").replaceChildren(...lengths.map((seconds) => new Option(`${seconds} s`, seconds)));
      one("#seconds").value = lengths[Math.min(1, lengths.length - 1)];
      one("#prompt").value = told.examples[0] ?? "";
      for (const text of told.examples) {
        const button = make("button", text);
        button.type = "button";
        button.addEventListener("click", () => { one("#prompt").value = text; one("#prompt").focus(); });
        one("#examples").append(button);
        one("#examples").hidden = false;
      }
      if (!told.switches) one("#hint").textContent = "This model cannot change its prompt while it streams.";
      if (told.native) {
        one("#nativekey span").textContent = `the length it was trained on, ${told.native} frames`;
        one("#nativekey").hidden = false;
      }
      one("#charts").replaceChildren(...told.drift.map((measure) => chart(measure)));
      enter("ready", "Ready.");
    },
    queued(told) {
      enter("queued", `Waiting: ${plural(told.before, "stream")} before yours.`);
    },
    started(told) {
      stream += 1;
      buffer = [];
      prompts = [];
      due = null;
      late = 0;
      waiting = false;
      one("#late").textContent = "0";
      one("#log").replaceChildren();
      one("#first").textContent = one("#fps").textContent = "n/a";
      strip.getContext("2d").clearRect(0, 0, strip.width, strip.height);
      say("");
      restart();
      prompted(0, told.prompt);
      enter("running", `Streaming up to ${plural(told.frames, "frame")}.`);
    },
    switched(told) {
      prompted(told.frame, told.prompt);
    },
    chunk(told) {
      one("#record").disabled = writing;
      one("#first").textContent = `${(1000 * told.first_frame_s).toFixed(0)} ms`;
      if (told.fps !== null) {
        one("#fps").textContent = told.fps.toFixed(told.fps < 10 ? 2 : 1);
        one("#realtime").textContent = `${(told.fps / model.fps).toFixed(1)} × the video's ${model.fps}; in the model, last 16 chunks`;
      }
      one("#made").textContent = told.made;
      const seconds = `${(told.made / model.fps).toFixed(1)} s`;
      one("#horizons").textContent = model.native
        ? `${seconds}, ${(told.made / model.native).toFixed(1)} × the trained length` : seconds;
      plot(told.made, told.drift);
    },
    refused(told) {
      refuse(told.text);
      if (!writing) return;
      one("#record").disabled = writing = false;
      say("");
    },
    ended(told) {
      if (told.why === "failed") refuse(told.text);
      enter(told.why === "failed" ? "failed" : "ready", told.why === "failed" ? "Ended." : told.text);
    },
    recording(told) {
      const link = make("a", told.name);
      link.href = `/recordings/${encodeURIComponent(told.name)}`;
      link.download = told.name;
      const lost = told.missing ? `; the ${told.missing} after them are beyond what is kept` : "";
      one("#saved").hidden = false;
      one("#saved").replaceChildren("Recorded: ", link, ` (${plural(told.frames, "frame")}${lost}).`);
      one("#record").disabled = writing = false;
      link.click();
    },
  };

  socket.addEventListener("message", ({ data }) => {
    if (typeof data === "string") {
      const told = JSON.parse(data);
      heard[told.type]?.(told);
      return;
    }
    const mine = stream, number = new DataView(data).getUint32(0);
    const type = new DataView(data).getUint8(4) === 0x89 ? "image/png" : "image/jpeg";
    decoding = decoding
      .then(() => createImageBitmap(new Blob([data.slice(4)], { type })))
      .then((image) => { if (mine === stream) buffer.push({ number, image }); })
      .catch(() => {}); // one that cannot be read is passed over
  });
  socket.addEventListener("close", () => {
    if (!model) refuse(one("#refusal").textContent || "The server let no page in.");
    enter("gone", "The server is gone. Start `sfbench demo` again and reload this page.");
    one("#record").disabled = true;
  });

  // --- frames, at the video's own rate ------------------------------------------------------------

  const screen = one("#screen"), strip = one("#strip");

  const draw = ({ number, image }) => {
    screen.getContext("2d").drawImage(image, 0, 0);
    one("#empty").hidden = true;
    const now = prompts.filter(({ frame }) => frame <= number).at(-1);
    one("#at").textContent = `frame ${number}, ${(number / model.fps).toFixed(1)} s`;
    if (now && one("#shown").textContent !== now.text) one("#shown").textContent = now.text;
    if (number % Math.max(1, Math.round(model.fps)) === 0) keep(number / Math.max(1, Math.round(model.fps)), image);
    image.close();
    send({ type: "drawn", frames: number + 1 });
  };

  // The first second's frame stays; the others move on when the strip is full.
  const keep = (second, image) => {
    const paper = strip.getContext("2d"), wide = strip.width / STRIP, high = strip.height;
    let place = second;
    if (second >= STRIP) {
      place = STRIP - 1;
      paper.drawImage(strip, 2 * wide, 0, (STRIP - 2) * wide, high, wide, 0, (STRIP - 2) * wide, high);
    }
    paper.drawImage(image, place * wide, 0, wide, high);
  };

  const turn = (now) => {
    requestAnimationFrame(turn);
    if (!model || (due !== null && now < due)) return;
    const next = buffer.shift();
    if (next) {
      due = due === null || waiting || now - due > LATE ? now : due;
      due += 1000 / model.fps;
      waiting = false;
      draw(next);
    } else if (due !== null && state === "running" && !waiting) {
      waiting = true;
      one("#late").textContent = ++late;
    }
  };
  requestAnimationFrame(turn);

  const prompted = (frame, text) => {
    prompts.push({ frame, text });
    const line = make("li");
    line.append(make("b", `from frame ${frame}`), make("span", text));
    one("#log").append(line);
  };

  // --- drift --------------------------------------------------------------------------------------

  const WIDE = 260, HIGH = 110, LEFT = 38, LOW = 92, POINTS = 600;
  const LEAST = { sharpness: 0.2, exposure: 0.05, saturation: 0.1 }; // half a chart's height
  let lines = [];

  const chart = ({ name, unit }) => {
    const change = name !== "violation";
    const title = change ? `${name[0].toUpperCase()}${name.slice(1)} change` : "Violation of the world";
    const figure = make("figure"), caption = make("figcaption"), value = make("b", "n/a");
    value.id = `drift-${name}`;
    caption.append(make("span", `${title}, ${unit}`), value);
    const svg = drawn("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": `${title} along the stream` });
    const marks = drawn("g", {}), path = drawn("path", {});
    const top = drawn("text", { x: LEFT - 5, y: 12, "text-anchor": "end" });
    const foot = drawn("text", { x: LEFT - 5, y: LOW, "text-anchor": "end" });
    const end = drawn("text", { x: WIDE, y: HIGH - 4, "text-anchor": "end" });
    const start = drawn("text", { x: LEFT, y: HIGH - 4 });
    start.textContent = "0";
    const zero = drawn("line", { class: "axis", x1: LEFT, x2: WIDE });
    svg.append(drawn("rect", { class: "border", x: LEFT, y: 4, width: WIDE - LEFT, height: LOW - 4 }), zero, marks, path, top, foot, start, end);
    figure.append(caption, svg);
    const line = { name, change, value, marks, path, top, foot, end, zero, points: [], every: 1, count: 0 };
    lines.push(line);
    sketch(line, 0);
    return figure;
  };

  const restart = () => {
    for (const line of lines) {
      Object.assign(line, { points: [], every: 1, count: 0 });
      line.value.textContent = "n/a";
      line.path.setAttribute("d", "");
      line.marks.replaceChildren();
    }
  };

  const plot = (made, values) => {
    for (const line of lines) {
      const value = values[line.name] ?? null;
      line.value.textContent = value === null ? "n/a" : (line.change && value >= 0.0005 ? "+" : "") + fixed(value, 3);
      if (line.count++ % line.every === 0) line.points.push([made, value]);
      if (line.points.length > POINTS) { // every other one is enough for a line so long
        line.points = line.points.filter((_, n) => n % 2 === 0);
        line.every *= 2;
      }
      sketch(line, made);
    }
  };

  const sketch = (line, made) => {
    const known = line.points.map(([, value]) => value).filter((value) => value !== null);
    const reach = line.change ? Math.max(LEAST[line.name] ?? 0.05, ...known.map(Math.abs)) * 1.05 : 1;
    const bottom = line.change ? -reach : 0;
    const x = (frame) => LEFT + (WIDE - LEFT) * frame / Math.max(made, 1);
    const y = (value) => 4 + (LOW - 4) * (reach - value) / (reach - bottom);
    let open = false, path = "";
    for (const [frame, value] of line.points) {
      path += value === null ? "" : `${open ? "L" : "M"}${x(frame).toFixed(1)} ${y(value).toFixed(1)}`;
      open = value !== null;
    }
    line.path.setAttribute("d", path);
    line.zero.setAttribute("y1", y(0));
    line.zero.setAttribute("y2", y(0));
    line.top.textContent = fixed(reach, reach < 0.095 ? 2 : 1);
    line.foot.textContent = fixed(bottom, reach < 0.095 ? 2 : 1);
    line.end.textContent = `frame ${made}`;
    const mark = (frame, name) => drawn("line", { class: name, x1: x(frame), x2: x(frame), y1: 4, y2: LOW });
    line.marks.replaceChildren(
      ...(model.native && model.native < made ? [mark(model.native, "nativeline")] : []),
      ...prompts.filter(({ frame }) => frame > 0 && frame < made).map(({ frame }) => mark(frame, "switchline")),
    );
  };
})();
