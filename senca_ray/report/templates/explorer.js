// The interactive panel of every section. A panel is made when it comes near the window, and the plotting
// library is unpacked when the first plot is needed, so that a page of many sections opens at once.
(() => {
  "use strict";
  const SVG = "http://www.w3.org/2000/svg";
  const GREY = "#8a94a0", INK = "#1c2430", RIM = "#666666";
  const DISC = 0.8, RIMMED = 0.86; // A spot's diameter without and with its rim, in spot distances.
  const read = (element) => JSON.parse(element.textContent);
  const shared = read(document.getElementById("explorer-colours"));

  let library = null;
  function plotting() {
    library ??= (async () => {
      const packed = document.getElementById("explorer-library");
      const bytes = Uint8Array.from(atob(packed.textContent.trim()), (character) => character.charCodeAt(0));
      packed.remove();
      const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      const script = document.createElement("script");
      script.textContent = await new Response(plain).text();
      document.head.append(script);
      return window.Plotly;
    })();
    return library;
  }

  function shape(name, attributes) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  }

  function explore(root) {
    const data = read(root.querySelector("script"));
    const part = (name) => root.querySelector(`[data-part="${name}"]`);
    const { xy, tree, spacing } = data;
    const n = xy.length / 2;
    const state = { left: part("left").value, right: part("right").value, k: tree ? tree.k : 0 };
    const stage = part("stage");
    const plots = {};

    // --- Colours ------------------------------------------------------------------------------------
    function colour(key, code) {
      const own = data.layers[key].colours;
      if (own) return own[code];
      if (code === -1) return shared.undetermined;
      return code < 0 ? shared.not_clustered : shared.palette[code % shared.palette.length];
    }
    // Codes beyond the palette repeat its colours with a dark rim.
    const repeated = (key, code) => !data.layers[key].colours && code >= shared.palette.length;

    function groups() {
      // The node of the dendrogram that every leaf belongs to where it is cut into state.k parts.
      const leaves = tree.joined.length + 1, applied = leaves - state.k;
      const top = Array.from({ length: leaves + applied }, (_, node) => node);
      for (let step = applied - 1; step >= 0; step--)
        for (const child of tree.joined[step]) top[child] = top[leaves + step];
      return top.slice(0, leaves);
    }

    function codesOf(key) {
      if (key !== "cut") return data.layers[key].codes;
      const top = groups();
      return tree.leaf.map((leaf) => (leaf < 0 ? -2 : tree.codes[top[leaf]]));
    }

    function legendOf(key) {
      if (key !== "cut") return data.layers[key].legend ?? [];
      const nodes = [...new Set(groups())].sort((a, b) => tree.sizes[b] - tree.sizes[a]);
      return nodes.map((node) => [tree.codes[node], "", tree.sizes[node]]);
    }

    // --- The tissue -----------------------------------------------------------------------------------
    const view = { viewBox: `0 0 ${data.size[0]} ${data.size[1]}`, "aria-hidden": "true" };
    const layers = {};
    for (const name of ["left", "right", "outlines", "mark"]) {
      layers[name] = shape("svg", { ...view, class: `layer ${name}`, "stroke-linecap": "round" });
      stage.append(layers[name]);
    }
    const ring = shape("circle", { r: spacing * 0.55, class: "ring", visibility: "hidden" });
    layers.mark.append(ring);
    for (const [code, line] of data.outlines) {
      layers.outlines.append(shape("path", { d: line, class: "casing", "stroke-width": spacing * 0.2 }));
      const stroke = colour("regions", code);
      layers.outlines.append(shape("path", { d: line, stroke, "stroke-width": spacing * 0.11 }));
    }
    layers.outlines.setAttribute("visibility", "hidden");

    function paint(side) {
      const key = state[side], codes = codesOf(key), places = new Map();
      (codes ?? []).forEach((code, spot) => {
        places.set(code, `${places.get(code) ?? ""}M${xy[2 * spot]} ${xy[2 * spot + 1]}h0`);
      });
      const rims = shape("g", { "stroke-width": RIMMED * spacing });
      const discs = shape("g", { "stroke-width": DISC * spacing });
      for (const [code, d] of places) {
        const rim = repeated(key, code) ? "#000000" : data.image ? "#ffffff" : RIM;
        rims.append(shape("path", { d, stroke: rim }));
        discs.append(shape("path", { d, stroke: colour(key, code), "data-code": code }));
      }
      layers[side].replaceChildren(rims, discs);

      const title = document.createElement("strong");
      title.textContent = `${side === "left" ? "Left" : "Right"}: ${data.layers[key].title}`;
      const list = document.createElement("ul");
      list.className = "legend";
      for (const [code, name, count] of legendOf(key)) {
        const entry = document.createElement("li"), swatch = document.createElement("span");
        swatch.className = "swatch";
        swatch.style.background = colour(key, code);
        if (repeated(key, code)) swatch.style.border = "3px solid #000000";
        entry.append(swatch, name ? `${name} (${count})` : `${count} spots`);
        list.append(entry);
      }
      part(`legend-${side}`).replaceChildren(title, list);
    }

    // --- What is known of a spot ----------------------------------------------------------------------
    function known(spot) {
      const labels = data.layers.labels, words = [`spot ${data.spots[spot]}`];
      if (labels) words.push(`label ${labels.legend.find(([code]) => code === labels.codes[spot])[1]}`);
      const region = data.regions[spot];
      words.push(region < 0 ? "not clustered" : `region ${region}`);
      if (data.confidence && region >= 0) words.push(`confidence ${data.confidence[spot]} %`);
      return words;
    }

    const asked = part("told").textContent;
    function point(spot) {
      ring.setAttribute("visibility", spot === null ? "hidden" : "visible");
      part("told").textContent = spot === null ? asked : known(spot).join(" · ");
      if (spot === null) return;
      ring.setAttribute("cx", xy[2 * spot]);
      ring.setAttribute("cy", xy[2 * spot + 1]);
    }

    function nearest(event) {
      const box = stage.getBoundingClientRect(), scale = data.size[0] / box.width;
      const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
      let found = null, least = spacing ** 2;
      for (let spot = 0; spot < n; spot++) {
        const distance = (xy[2 * spot] - x) ** 2 + (xy[2 * spot + 1] - y) ** 2;
        if (distance < least) [found, least] = [spot, distance];
      }
      return found;
    }
    for (const name of ["pointermove", "pointerdown"]) stage.addEventListener(name, (e) => point(nearest(e)));
    stage.addEventListener("pointerleave", () => point(null));

    // --- Plots ----------------------------------------------------------------------------------------
    const plain = {
      margin: { l: 8, r: 8, t: 8, b: 8 }, showlegend: false, dragmode: false, hovermode: "closest",
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", size: 12, color: INK },
      hoverlabel: { bgcolor: "#ffffff", bordercolor: INK, font: { color: INK }, align: "left" },
    };
    const settings = { displayModeBar: false, responsive: true };
    const bare = { visible: false, fixedrange: true };
    // Plotly reads some tags in its texts: what the cohort's files say is never one.
    const safe = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

    const shown = () => ["right", "left"].map((side) => state[side]).find((key) => codesOf(key)) ?? "regions";
    function dots() {
      const key = shown(), codes = codesOf(key);
      return {
        "marker.color": [codes.map((code) => colour(key, code))],
        "marker.line.color": [codes.map((code) => (repeated(key, code) ? "#000000" : "#555555"))],
        "marker.line.width": [codes.map((code) => (repeated(key, code) ? 1.6 : 0.4))],
      };
    }

    async function drawUmap() {
      const plotly = await plotting(), paints = dots();
      const trace = {
        type: "scatter", mode: "markers", hoverinfo: "text", x: data.umap[0], y: data.umap[1],
        text: Array.from({ length: n }, (_, spot) => known(spot).map(safe).join("<br>")),
        marker: {
          size: n > 1500 ? 4 : 7, color: paints["marker.color"][0],
          line: { color: paints["marker.line.color"][0], width: paints["marker.line.width"][0] },
        },
      };
      await plotly.newPlot(part("umap"), [trace], { ...plain, xaxis: bare, yaxis: bare }, settings);
      part("umap").on("plotly_hover", (event) => point(event.points[0].pointIndex));
      part("umap").on("plotly_unhover", () => point(null));
      plots.umap = plotly;
    }

    function branches() {
      const leaves = tree.joined.length + 1, applied = leaves - state.k, top = groups();
      const lines = new Map(), { x, y, codes } = tree;
      // A merge below the cut has the colour of the part that it lies in: that of its leftmost leaf.
      const leaf = Array.from({ length: leaves }, (_, node) => node);
      tree.joined.forEach(([a, b], step) => {
        const node = leaves + step;
        leaf[node] = leaf[a];
        const code = step < applied ? codes[top[leaf[node]]] : null;
        const line = lines.get(code) ?? { x: [], y: [] };
        line.x.push(x[a], x[a], x[b], x[b], null);
        line.y.push(y[a], y[node], y[node], y[b], null);
        lines.set(code, line);
      });
      const traces = [...lines].map(([code, line]) => ({
        type: "scatter", mode: "lines", hoverinfo: "skip", ...line,
        line: { color: code === null ? GREY : colour("cut", code), width: code === null ? 1.2 : 2.5 },
      }));
      const nodes = [...new Set(top)], total = tree.sizes.at(-1);
      traces.push({
        type: "scatter", mode: "markers", hoverinfo: "text",
        x: nodes.map((node) => x[node]), y: nodes.map((node) => y[node]),
        text: nodes.map((node) => `${tree.sizes[node]} spots`),
        marker: {
          color: nodes.map((node) => colour("cut", codes[node])),
          size: nodes.map((node) => 8 + 16 * Math.sqrt(tree.sizes[node] / total)),
          opacity: 1, line: { color: nodes.map((node) => (repeated("cut", codes[node]) ? "#000000" : "#555555")), width: 1 },
        },
      });
      return traces;
    }

    function cutLine() {
      const leaves = tree.joined.length + 1, applied = leaves - state.k;
      const above = applied < leaves - 1 ? tree.y[leaves + applied] : tree.y.at(-1) * 1.08;
      const y = ((applied ? tree.y[leaves + applied - 1] : 0) + above) / 2;
      return { type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line: { color: INK, dash: "dash", width: 1.5 } };
    }

    async function drawTree() {
      const plotly = await plotting(), layout = {
        ...plain, margin: { ...plain.margin, l: 46 }, shapes: [cutLine()], xaxis: bare,
        yaxis: { title: { text: "height" }, fixedrange: true, zeroline: false, rangemode: "tozero", nticks: 5 },
      };
      await plotly.react(part("tree"), branches(), layout, settings);
      plots.tree = plotly;
    }

    // --- What the reader does -------------------------------------------------------------------------
    function sayCut() {
      const sizes = legendOf("cut").map(([, , size]) => size), silhouette = tree.curve[state.k];
      const words = `${state.k} region${state.k === 1 ? "" : "s"}: ${sizes.join(", ")} spots`;
      const score = silhouette === undefined ? "" : `; mean silhouette ${silhouette.toFixed(3).replace("-", "−")}`;
      part("cut-words").textContent = words + score;
      part("cut").setAttribute("aria-valuetext", `${state.k} regions`);
    }

    function update() {
      for (const side of ["left", "right"]) paint(side);
      if (part("umap")) part("umap-words").textContent = data.layers[shown()].title;
      if (plots.umap) plots.umap.restyle(part("umap"), dots(), [0]);
      if (plots.tree) drawTree();
      if (tree) sayCut();
    }

    for (const side of ["left", "right"])
      part(side).addEventListener("change", () => {
        state[side] = part(side).value;
        update();
      });
    part("swipe").addEventListener("input", () => stage.style.setProperty("--cut", `${part("swipe").value}%`));
    part("opacity")?.addEventListener("input", () => {
      stage.style.setProperty("--opacity", part("opacity").value / 100);
    });
    part("outlined")?.addEventListener("change", () => {
      layers.outlines.setAttribute("visibility", part("outlined").checked ? "visible" : "hidden");
    });
    part("cut")?.addEventListener("input", () => {
      state.k = Number(part("cut").value);
      // Whoever moves the cut wants to see it.
      if (state.left !== "cut" && state.right !== "cut") state.right = part("right").value = "cut";
      update();
    });

    update();
    const wanted = [[part("umap"), drawUmap], [tree && part("tree"), drawTree]].filter(([place]) => place);
    Promise.all(wanted.map(([, draw]) => draw())).catch((error) => {
      for (const [place] of wanted) place.textContent = `This plot cannot be drawn in this browser (${error.message}).`;
    });
  }

  const seen = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        seen.unobserve(target);
        explore(target);
      }
    },
    { rootMargin: "300px 0px" },
  );
  for (const root of document.querySelectorAll(".explorer")) {
    root.hidden = false;
    seen.observe(root);
  }
})();
