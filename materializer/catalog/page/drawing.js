// The drawing of a lineage: boxes with rows, joined by lines. One stop of the Tab key; arrows walk along the lines and
// through the rows, Enter opens, and what is pointed at lights its way up and down.

const measure = once(() => {
  const context = document.createElement('canvas').getContext('2d'),
    style = getComputedStyle(document.documentElement);
  const fonts = {
    head: `600 12px ${style.getPropertyValue('--sans')}`,
    row: `12px ${style.getPropertyValue('--mono')}`,
  };
  return (text, font) => {
    context.font = fonts[font];
    return context.measureText(text).width;
  };
});

// `boxes`: [{id, title, kind, href, current, rows: [{id, title, href, current, says}]}]; `edges`: [[from, to, kind]] between
// ids of rows, or of boxes that have none. `tell(id)` is called with what is pointed at.
function drawing(boxes, edges, label, tell) {
  const widthOf = measure();
  for (const box of boxes) {
    box.short = middle(box.title, 34);
    box.rows.forEach((row) => {
      row.short = middle(row.title, 34);
    });
    box.width = Math.ceil(
      Math.max(88, widthOf(box.short, 'head') + 26, ...box.rows.map((row) => widthOf(row.short, 'row') + 26)),
    );
    box.height = HEAD + (box.rows.length ? box.rows.length * ROW + 4 : 0);
  }
  const owner = new Map(boxes.flatMap((box) => [[box.id, box], ...box.rows.map((row) => [row.id, box])]));
  const joins = distinct(edges.map(([from, to]) => `${owner.get(from).id}\n${owner.get(to).id}`)).map((pair) =>
    pair.split('\n'),
  );
  const { width, height, bends } = layout(boxes, joins);

  // Boxes of one column are as wide as the widest, and lines leave from their rows.
  const at = (id, end) => {
    const box = owner.get(id),
      index = box.rows.findIndex((row) => row.id === id);
    const y = box.y + (index < 0 ? Math.min(HEAD, box.height) / 2 : HEAD + index * ROW + ROW / 2 + 1);
    return [end ? box.x + box.span : box.x, y];
  };
  const lines = edges.map(([from, to, kind]) => {
    const [x1, y1] = at(from, true),
      [x2, y2] = at(to, false);
    let d = `M${x1} ${y1}`,
      x = x1,
      y = y1;
    if (owner.get(from) === owner.get(to)) {
      // one column of a relation made from another of it
      return s('path', {
        d: `${d}c16 0 16 ${at(to, true)[1] - y1} 0 ${at(to, true)[1] - y1}`,
        class: `edge ${kind}`,
        'data-from': from,
        'data-to': to,
      });
    }
    const go = (nx, ny) => {
      const half = (nx - x) / 2;
      d += `C${x + half} ${y} ${nx - half} ${ny} ${nx} ${ny}`;
      x = nx;
      y = ny;
    };
    for (const [bx, span, by] of bends.get(`${owner.get(from).id}\n${owner.get(to).id}`) || []) {
      go(bx, by);
      d += `H${bx + span}`;
      x = bx + span;
    }
    go(x2, y2);
    return s('path', { d, class: `edge ${kind}`, 'data-from': from, 'data-to': to });
  });

  const stops = new Map();
  const target = (thing, box, y, tall, isRow) => {
    const a = s(
      'a',
      {
        href: thing.href,
        tabindex: -1,
        'data-id': thing.id,
        class: thing.current ? 'current' : null,
        'aria-label': [isRow ? `${thing.title} in ${box.title}` : `${box.title}, ${box.kind}`, thing.says]
          .filter(Boolean)
          .join(', '),
      },
      s('rect', { class: 'hit', x: box.x + 4, y, width: box.span - 6, height: tall, rx: 3 }),
      s('text', { class: isRow ? 'row' : 'head', x: box.x + 14, y: y + tall / 2 + 4 }, thing.short),
      thing.short === thing.title ? null : s('title', null, thing.title),
    );
    stops.set(thing.id, a);
    return a;
  };
  const groups = boxes.map((box) =>
    s(
      'g',
      { class: `box ${box.kind}` },
      s('rect', { class: 'frame', x: box.x + 0.5, y: box.y + 0.5, width: box.span - 1, height: box.height - 1, rx: 4 }),
      box.rows.length
        ? s('path', {
            class: 'under',
            d: `M${box.x + 4} ${box.y + 1}h${box.span - 8}a3 3 0 0 1 3 3v${HEAD - 5}h${2 - box.span}z`,
          })
        : null,
      s('path', { class: 'kind', d: `M${box.x} ${box.y + 1}h3v${box.height - 2}h-3z` }),
      target(box, box, box.y + 1, HEAD - 2, false),
      box.rows.map((row, index) => target(row, box, box.y + HEAD + index * ROW + 1, ROW, true)),
    ),
  );

  const svg = s(
    'svg',
    {
      class: 'lineage',
      width: width + 2,
      height: height + 2,
      viewBox: `-1 -1 ${width + 2} ${height + 2}`,
      role: 'group',
      'aria-label': label,
    },
    lines,
    groups,
  );
  walkable(svg, boxes, edges, stops, lines, owner, tell);
  return svg;
}

function walkable(svg, boxes, edges, stops, lines, owner, tell) {
  const up = new Map(),
    down = new Map();
  edges.forEach(([from, to]) => {
    if (!up.has(to)) up.set(to, []);
    if (!down.has(from)) down.set(from, []);
    up.get(to).push(from);
    down.get(from).push(to);
  });
  // All that a thing is made of, or that is made of it.
  const beyond = (start, ways) => {
    const seen = new Set(start),
      waiting = [...start];
    while (waiting.length)
      for (const next of ways.get(waiting.pop()) || [])
        if (!seen.has(next)) {
          seen.add(next);
          waiting.push(next);
        }
    return seen;
  };
  const own = (id) => {
    const box = owner.get(id);
    return box.id === id ? [id, ...box.rows.map((row) => row.id)] : [id];
  };
  const light = (id) => {
    svg.classList.toggle('lit', id !== null);
    const above = id === null ? null : beyond(own(id), up),
      below = id === null ? null : beyond(own(id), down);
    lines.forEach((path) => {
      const { from, to } = path.dataset;
      path.classList.toggle(
        'on',
        id !== null && ((above.has(from) && above.has(to)) || (below.has(from) && below.has(to))),
      );
    });
    const on = (one) => above.has(one) || below.has(one);
    stops.forEach((a, one) => {
      const box = owner.get(one),
        ids = one === box.id ? [one, ...box.rows.map((row) => row.id)] : box.folded ? [box.id] : [one];
      a.classList.toggle('on', id !== null && ids.some(on));
    });
  };

  const current = boxes.flatMap((box) => [box, ...box.rows]).find((thing) => thing.current) || boxes[0];
  let here = current.id;
  stops.get(here).setAttribute('tabindex', 0);
  const move = (id) => {
    if (id === undefined || id === null || !stops.has(id)) return;
    stops.get(here).setAttribute('tabindex', -1);
    here = id;
    stops.get(id).setAttribute('tabindex', 0);
    stops.get(id).focus();
  };
  const order = boxes.map((box) => [box, [box.id, ...box.rows.map((row) => row.id)]]);
  const beside = (step) => {
    const box = owner.get(here);
    const column = order
      .filter(([one]) => one.x === box.x)
      .sort((a, b) => a[0].y - b[0].y)
      .flatMap(([, ids]) => ids);
    return column[column.indexOf(here) + step];
  };
  const near = (ways) => {
    const next = own(here).flatMap((id) => ways.get(id) || []);
    const y = owner.get(here).y;
    return next.sort((a, b) => Math.abs(owner.get(a).y - y) - Math.abs(owner.get(b).y - y))[0];
  };
  svg.addEventListener('keydown', (event) => {
    const to = {
      ArrowLeft: () => near(up),
      ArrowRight: () => near(down),
      ArrowUp: () => beside(-1),
      ArrowDown: () => beside(1),
      Home: () => current.id,
    }[event.key];
    if (!to || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    move(to());
  });
  const idOf = (event) => {
    const a = event.target.closest && event.target.closest('a');
    return a ? a.dataset.id : null;
  };
  svg.addEventListener('focusin', (event) => {
    const id = idOf(event);
    if (id) {
      light(id);
      tell(id);
    }
  });
  svg.addEventListener('focusout', () => {
    light(null);
    tell(current.id);
  });
  svg.addEventListener('pointerover', (event) => {
    const id = idOf(event);
    if (id) {
      light(id);
      tell(id);
    }
  });
  svg.addEventListener('pointerleave', () => {
    light(null);
    tell(current.id);
  });
  tell(current.id);
}
