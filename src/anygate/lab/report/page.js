"use strict";
// Draws every chart from the JSON beside it. `ast` makes Vega interpret expressions instead of
// compiling them, so that the page runs under a policy that forbids eval.
for (const frame of document.querySelectorAll("[data-spec]")) {
  const spec = JSON.parse(document.getElementById(frame.dataset.spec).textContent);
  const options = { mode: "vega-lite", renderer: "svg", actions: false, ast: true };
  vegaEmbed(frame, spec, options).catch((error) => {
    frame.textContent = "This chart could not be drawn (" + error.message + "). Its numbers are below.";
  });
}
