"use strict";
(() => {
  const { arms, charts } = JSON.parse(document.getElementById("data").textContent);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const armColour = (arm) => colour(arm === "karta" ? "--arm-8" : `--arm-${arms.indexOf(arm) % 8}`);
  // Percentiles are drawn by how rare what lies beyond is: each further nine is as wide as the one before.
  const rarity = (percent) => 100 / (100 - percent);
  const percentOf = (value) => 100 - 100 / value;
  const percentMarks = [50, 90, 99, 99.9, 99.99].map(rarity);
  const short = (value) =>
    value === null || value === undefined
      ? ""
      : Math.abs(value) >= 100
        ? Math.round(value).toLocaleString("en")
        : Number(value.toPrecision(3)).toString();

  function scaleOf(axis, isX) {
    if (axis.scale === "linear") return isX ? { time: false } : { range: (_, low, high) => uPlot.rangeNum(Math.min(0, low), high, 0.1, true) };
    // Not out to the next decades, which would leave most of the plot empty.
    return { distr: 3, log: 10, time: false, range: (_, low, high) => [low / 1.25, high * 1.25] };
  }

  function axisOf(axis, isX, whole) {
    const made = {
      label: axis.label,
      labelSize: 22,
      labelFont: "12px system-ui",
      font: "11px system-ui",
      stroke: colour("--soft"),
      grid: { stroke: colour("--grid"), width: 1 },
      ticks: { stroke: colour("--grid"), width: 1 },
      size: isX ? 36 : 58,
      values: (_, marks) => marks.map((mark) => (mark === null ? "" : short(mark))),
    };
    if (axis.scale === "percent") {
      made.splits = () => percentMarks;
      made.filter = (_, marks) => marks;
      made.values = (_, marks) => marks.map((mark) => `p${short(percentOf(mark)).replace(/^100$/, "99.99")}`);
    }
    if (axis.scale === "log") {
      // Round figures, whatever the range begins with.
      made.splits = (_, __, low, high) => {
        // Where there is nothing to draw there is no range.
        if (!(low > 0 && high < Infinity)) return [];
        const decades = Math.log10(high / low);
        const wanted = decades < 1.3 ? [1, 2, 3, 4, 5, 6, 8] : decades < 2.5 ? [1, 2, 5] : [1];
        const marks = [];
        for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1)
          for (const digit of wanted) {
            const mark = digit * 10 ** power;
            if (mark >= low && mark <= high) marks.push(Number(mark.toPrecision(1)));
          }
        return marks;
      };
      made.filter = (_, marks) => marks;
    }
    // There is no half of a worker or of a connection.
    if (isX && whole) made.incrs = [1, 2, 5].flatMap((digit) => [0, 1, 2, 3, 4, 5, 6, 7].map((power) => digit * 10 ** power)).sort((a, b) => a - b);
    return made;
  }

  function draw(place) {
    const chart = charts[Number(place.dataset.chart)];
    const toX = chart.x.scale === "percent" ? rarity : (value) => value;
    const positive = chart.y.scale === "log";
    const tables = chart.lines.map((line) => {
      const rows = line.x.map((x, i) => [toX(x), positive && line.y[i] <= 0 ? null : line.y[i]]).sort((a, b) => a[0] - b[0]);
      return [rows.map((row) => row[0]), rows.map((row) => row[1])];
    });
    const series = chart.lines.map((line) => ({
      label: line.arm,
      stroke: armColour(line.arm),
      width: line.arm === "karta" ? 3 : 1.75,
      // Points that are no curve are not joined to one.
      paths: chart.points ? () => null : undefined,
      dash: line.arm === "direct" ? [4, 4] : undefined,
      spanGaps: true,
      points: { show: chart.points || line.x.length <= 40, size: (line.arm === "karta" ? 7 : 5) + (chart.points ? 2 : 0), fill: chart.points ? armColour(line.arm) : undefined },
      value: (_, value) => short(value),
    }));
    const xLabel = chart.x.scale === "percent" ? "at" : chart.x.label;
    const xValue = chart.x.scale === "percent" ? (_, v) => (v === null ? "" : `p${short(percentOf(v))}`) : (_, v) => short(v);
    place.replaceChildren();
    new uPlot(
      {
        width: Math.max(place.clientWidth, 240),
        height: 280,
        scales: { x: scaleOf(chart.x, true), y: scaleOf(chart.y, false) },
        axes: [axisOf(chart.x, true, chart.lines.every((line) => line.x.every(Number.isInteger))), axisOf(chart.y, false)],
        series: [{ label: xLabel, value: xValue }, ...series],
        legend: { live: true },
        cursor: { points: { size: 8 } },
      },
      uPlot.join(tables),
      place,
    );
  }

  const places = [...document.querySelectorAll(".plot")];
  const drawAll = () => places.forEach(draw);
  let width = 0;
  new ResizeObserver(() => {
    if (document.body.clientWidth !== width) {
      width = document.body.clientWidth;
      drawAll();
    }
  }).observe(document.body);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
})();
