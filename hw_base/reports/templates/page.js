"use strict";
// Plotly reads a little HTML in names: names come from runs, so its signs are escaped.
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colors = ["#3b82f6", "#e8853d", "#2fa66a", "#d1495b", "#8b6fd6", "#a07850", "#d36fb0", "#7f8794"];
const options = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
function layout(more) {
  const line = { gridcolor: color("--line"), zerolinecolor: color("--line"), linecolor: color("--line"), automargin: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: color("--ink"), family: "system-ui, sans-serif" },
    colorway: colors, modebar: { bgcolor: "rgba(0,0,0,0)", color: color("--soft"), activecolor: color("--accent") },
    margin: { l: 55, r: 15, t: 32, b: 45 }, legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom" }, hovermode: "x unified",
    hoverlabel: { bgcolor: color("--paper"), font: { color: color("--ink") } },
    ...more, xaxis: { ...line, ...more.xaxis }, yaxis: { ...line, ...more.yaxis },
  };
}
function drawCurves(chart, data) {
  const metric = chart.querySelector("select").value, plot = chart.querySelector(".plot");
  const log = chart.querySelector("input").checked;
  const several = data.runs.length > 1;
  const traces = data.curves[metric].map(({ run, split, x, y }, place) => ({
    x, y, name: plain(several ? `${run}: ${split}` : split), showlegend: true, type: "scatter",
    mode: x.length > 60 ? "lines" : "lines+markers", marker: { size: 5 },
    line: { color: several ? colors[data.runs.indexOf(run) % colors.length] : colors[place % colors.length], dash: several && split === "train" ? "dot" : "solid" },
  }));
  const axes = { xaxis: { title: { text: plain(plot.dataset.axis) } }, yaxis: { title: { text: plain(metric) }, type: log ? "log" : "linear" } };
  Plotly.react(plot, traces, layout(axes), options);
}
function drawIntervals(block) {
  const points = JSON.parse(block.querySelector("script").textContent).reverse(), plot = block.querySelector(".plot");
  const trace = {
    x: points.map((p) => p[1]), y: points.map((p) => plain(p[0])), type: "scatter", mode: "markers", marker: { size: 10 },
    error_x: { type: "data", symmetric: false, array: points.map((p) => p[3] - p[1]), arrayminus: points.map((p) => p[1] - p[2]) },
  };
  const height = 110 + 34 * points.length;
  plot.style.height = height + "px";
  const axes = { height, hovermode: "closest", xaxis: { title: { text: plain(plot.dataset.axis) }, rangemode: "tozero" }, yaxis: { type: "category" } };
  Plotly.react(plot, [trace], layout(axes), options);
}
function drawAll() {
  for (const block of document.querySelectorAll(".curves")) {
    const data = JSON.parse(block.querySelector("script").textContent);
    for (const chart of block.querySelectorAll(".chart")) {
      drawCurves(chart, data);
      chart.onchange = () => drawCurves(chart, data);
    }
  }
  document.querySelectorAll(".intervals").forEach(drawIntervals);
}
// A picture that was made small opens in its own size.
const large = document.createElement("dialog");
large.className = "large";
large.onclick = () => large.close();
document.body.append(large);
for (const image of document.querySelectorAll("figure img")) {
  const open = () => { large.replaceChildren(image.cloneNode()); large.showModal(); };
  Object.assign(image, { tabIndex: 0, onclick: open, onkeydown: (event) => { if (event.key === "Enter") open(); } });
  image.setAttribute("role", "button");
}
drawAll();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
