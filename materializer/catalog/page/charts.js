// Drawings of numbers, in SVG made here: a small shape for a row, a histogram, a line over time, an age against its limits.

const narrow = () => matchMedia('(max-width: 720px)').matches;

// A histogram as one path, from letters (`a` nothing, `z` the tallest); or shares of the commonest texts as one bar.
function smallShape(shape) {
  if (shape === 'on demand') return h('span', { class: 'faint' }, shape);
  if (shape === null) return h('span', { class: 'faint' }, 'no statistics');
  if (typeof shape === 'number') return h('span', { class: 'faint' }, `norm ${number(shape)}`);
  if (!shape.length) return h('span', { class: 'faint' }, DASH);
  if (typeof shape === 'string') {
    let d = '';
    for (let i = 0; i < shape.length; i++) {
      const height = (shape.charCodeAt(i) - 97) * 0.72;
      if (height) d += `M${i * 3.5} 20v-${height.toFixed(1)}h2.8V20z`;
    }
    return s(
      'svg',
      { class: 'small-shape', width: 84, height: 20, viewBox: '0 0 84 20', 'aria-hidden': 'true' },
      s('path', { d }),
    );
  }
  let x = 0;
  const bars = shape.map((part, index) => {
    const width = Math.max(part * 84 - 1, 0.5),
      at = x;
    x += part * 84;
    return s('rect', { x: at, y: 5, width, height: 10, class: `share s${Math.min(index, 5)}` });
  });
  return s('svg', { class: 'small-shape', width: 84, height: 20, viewBox: '0 0 84 20', 'aria-hidden': 'true' }, bars);
}

// Round numbers that divide a range into about `most` parts.
function ticks(from, to, most) {
  const rough = (to - from) / most,
    size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * size).find((n) => n >= rough) || size;
  const out = [];
  for (let value = Math.ceil(from / step) * step; value <= to + step / 1e6; value += step)
    out.push(Number(value.toPrecision(10)));
  return out;
}

// Values between 1% and 99% as bars, what lies beyond as a grey bar at each end; below, a box of quantiles.
function histogram(statistics) {
  const { core } = statistics,
    W = narrow() ? 340 : 640,
    H = 176,
    left = 34,
    right = 34,
    base = H - 4;
  const counts = core.counts,
    tallest = Math.max(...counts, core.below || 0, core.above || 0, 1),
    all = total(counts) + (core.below || 0) + (core.above || 0);
  const inner = W - left - right,
    wide = inner / counts.length,
    height = (n) => (n ? Math.max((n / tallest) * (base - 12), 1.5) : 0);
  const x = (value) => left + ((value - core.from) / (core.to - core.from || 1)) * inner;
  const tall = share(tallest / (all || 1));
  const bars = counts.map((n, index) => {
    const from = core.from + ((core.to - core.from) * index) / counts.length,
      to = core.from + ((core.to - core.from) * (index + 1)) / counts.length;
    return s(
      'rect',
      {
        x: left + index * wide + 0.5,
        y: base - height(n),
        width: Math.max(wide - 1, 1),
        height: height(n),
        class: 'bar',
      },
      s('title', null, `${number(from)} to ${number(to)}: ${count(n, 'row')}, ${share(n / (all || 1))}`),
    );
  });
  const tail = (n, at, word) =>
    n
      ? s(
          'rect',
          { x: at, y: base - height(n), width: 18, height: height(n), class: 'tail' },
          s('title', null, `${word}: ${count(n, 'row')}, ${share(n / (all || 1))}`),
        )
      : null;
  const inside = (value) => typeof value === 'number' && value >= core.from && value <= core.to;
  const { p05, p25, p50, p75, p95 } = statistics,
    y = H + 12;
  const clip = (value) => Math.min(Math.max(x(value), left), W - right);
  const box = [p05, p25, p50, p75, p95].every((value) => typeof value === 'number')
    ? [
        s('path', { d: `M${clip(p05)} ${y}H${clip(p95)}`, class: 'whisker' }),
        s('rect', { x: clip(p25), y: y - 4, width: Math.max(clip(p75) - clip(p25), 2), height: 8, class: 'box' }),
        s('path', { d: `M${clip(p50)} ${y - 6}v12`, class: 'median' }),
      ]
    : null;
  const marks =
    core.to > core.from
      ? ticks(core.from, core.to, 5)
          .filter(inside)
          .map((value) => [
            s('path', { d: `M${x(value)} ${H + 22}v4`, class: 'grid' }),
            s('text', { x: x(value), y: H + 40, 'text-anchor': 'middle' }, number(value)),
          ])
      : s('text', { x: W / 2, y: H + 40, 'text-anchor': 'middle' }, number(core.from));
  const label =
    `Histogram of ${number(all)} values between ${number(core.from)} and ${number(core.to)}, the tallest of ${counts.length} bars ${tall};` +
    ` ${number(core.below || 0)} below, ${number(core.above || 0)} above`;
  return s(
    'svg',
    { class: 'histogram', viewBox: `0 0 ${W} ${H + 46}`, role: 'img', 'aria-label': label },
    s('path', { d: `M${left} 12H${W - right}M${left} ${(base + 12) / 2}H${W - right}`, class: 'grid' }),
    s('text', { x: W - right, y: 8, 'text-anchor': 'end' }, `${tall} in the tallest`),
    tail(core.below, left - 24, 'below 1%'),
    bars,
    tail(core.above, W - right + 6, 'above 99%'),
    s('path', { d: `M${left} ${base + 0.5}H${W - right}`, class: 'axis' }),
    box,
    marks,
  );
}

// The commonest values, as bars with their names.
function commonest(statistics) {
  const rows = statistics.row_count - (statistics.null_count || 0),
    top = statistics.top_values;
  const most = Math.max(...top.map(([, n]) => n), 1),
    rest = rows - total(top.map(([, n]) => n));
  const line = (name, n, kind) =>
    h(
      'li',
      null,
      h('span', { class: 'what' }, name),
      s(
        'svg',
        { viewBox: '0 0 100 10', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
        s('rect', { x: 0, y: 0, width: Math.max((Math.min(n, most) / most) * 100, 0.4), height: 10, class: kind }),
      ),
      h('span', { class: 'num' }, share(n / (rows || 1))),
    );
  return h(
    'ul',
    { class: 'commonest' },
    top.map(([value, n]) => line(value === '' ? h('i', null, 'empty text') : String(value), n, 'bar')),
    rest > 0 && statistics.distinct_count > top.length
      ? line(h('span', { class: 'faint' }, `${number(statistics.distinct_count - top.length)} others`), rest, 'tail')
      : null,
  );
}

// One number a period. Gaps stay gaps. `band` is [low, high], drawn behind.
function line(title, history, pick, format, band) {
  const W = 260,
    H = 56,
    values = history.map(pick),
    known = values.filter((value) => typeof value === 'number');
  if (!known.length) return null;
  const around = band ? history.flatMap((one) => band(one)).filter((value) => typeof value === 'number') : [];
  let low = Math.min(...known, ...around),
    high = Math.max(...known, ...around);
  if (low === high) {
    low -= Math.abs(low) * 0.1 || 1;
    high += Math.abs(high) * 0.1 || 1;
  }
  const x = (index) => 4 + (values.length < 2 ? (W - 8) / 2 : (index * (W - 8)) / (values.length - 1));
  const y = (value) => H - 6 - ((value - low) / (high - low)) * (H - 12);
  let d = '',
    open = false;
  values.forEach((value, index) => {
    if (typeof value !== 'number') {
      open = false;
      return;
    }
    d += `${open ? 'L' : 'M'}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
    open = true;
  });
  const last = values.findLastIndex((value) => typeof value === 'number');
  let area = null;
  if (band) {
    const points = history
      .map((one, index) => [index, ...band(one)])
      .filter(([, a, b]) => typeof a === 'number' && typeof b === 'number');
    if (points.length > 1) {
      area = s('path', {
        class: 'band',
        d:
          'M' +
          [
            ...points.map(([i, a]) => `${x(i).toFixed(1)} ${y(a).toFixed(1)}`),
            ...points.reverse().map(([i, , b]) => `${x(i).toFixed(1)} ${y(b).toFixed(1)}`),
          ].join('L') +
          'z',
      });
    }
  }
  const label = `${title}, from ${history[0].period} to ${history.at(-1).period}: ${format(known[0])} to ${format(values[last])}, lowest ${format(Math.min(...known))}, highest ${format(Math.max(...known))}`;
  return h(
    'figure',
    { class: 'spark' },
    h('figcaption', null, h('span', null, title), h('b', null, format(values[last]))),
    s(
      'svg',
      { viewBox: `0 0 ${W} ${H}`, role: 'img', 'aria-label': label },
      s('path', { d: `M0 ${H - 0.5}H${W}`, class: 'grid' }),
      area,
      s('path', { d, class: 'line' }),
      s('circle', { cx: x(last), cy: y(values[last]), r: 2.5, class: 'dot' }),
    ),
    h('div', { class: 'ends' }, h('span', null, history[0].period), h('span', null, history.at(-1).period)),
  );
}

// A length against its limits: an age against ttl, a measure of drift against what counts as much.
function gauge(name, value, limits, answer, more, kind) {
  const known = limits.filter(([, at]) => typeof at === 'number');
  const end = Math.max(...known.map(([, at]) => at * 1.06), value || 0, 1e-9),
    W = narrow() ? 320 : 480;
  const x = (one) => (one / end) * W;
  return h(
    'div',
    { class: 'limit' },
    h('span', null, name),
    h(
      'div',
      { class: 'scale' },
      s(
        'svg',
        { viewBox: `0 0 ${W} 26`, 'aria-hidden': 'true', preserveAspectRatio: 'xMidYMid meet' },
        s('rect', { x: 0, y: 3, width: W, height: 6, class: 'track' }),
        typeof value === 'number'
          ? s('rect', { x: 0, y: 3, width: Math.max(x(value), 2), height: 6, class: `fill ${kind}` })
          : null,
        known.map(([, at]) => s('path', { d: `M${x(at)} 0v12`, class: 'mark' })),
        known.map(([word, at]) =>
          s('text', { x: Math.max(x(at) - 2, 10), y: 24, 'text-anchor': x(at) > 60 ? 'end' : 'start' }, word),
        ),
      ),
    ),
    h('div', { class: 'says' }, answer, more ? h('span', { class: 'faint' }, more) : null),
  );
}
