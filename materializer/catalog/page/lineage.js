// Lineage as a page shows it: a drawing and a list of the same, with the expression of what is pointed at below.

let lineageAs = null,
  lineageRows = false;

// Columns of a walk as boxes of their relations.
function boxesOf(columns, current) {
  const boxes = new Map();
  for (const reference of columns) {
    const [name, column] = split(reference);
    if (!boxes.has(name)) {
      const kind = kindOf(name) || 'model';
      boxes.set(name, {
        id: `${name}:*`,
        title: name,
        kind,
        href: kindOf(name) ? address(kind, name) : '#/',
        current: current === `${name}:*`,
        rows: [],
      });
    }
    if (column !== '*') {
      boxes.get(name).rows.push({
        id: reference,
        title: column,
        href: columnAddress(reference) || '#/',
        current: reference === current,
        says: expression(reference),
      });
    }
  }
  return [...boxes.values()];
}

// A box of many columns says how many, and its edges join the box: what is read whole needs no line a column.
const MOST_ROWS = 12;
function folded(boxes, edges, current) {
  const into = new Map();
  const shown = boxes.map((box) => {
    if (box.rows.length <= MOST_ROWS || box.rows.some((row) => row.id === current)) return box;
    box.rows.forEach((row) => into.set(row.id, box.id));
    const names = box.rows
      .slice(0, 6)
      .map((row) => row.title)
      .join(', ');
    return {
      ...box,
      folded: true,
      rows: [
        { id: `${box.id} folded`, title: count(box.rows.length, 'column'), href: box.href, says: `${names}, \u2026` },
      ],
    };
  });
  const joined = new Map();
  for (const [from, to, kind] of edges) {
    const edge = [into.get(from) || from, into.get(to) || to, kind];
    if (edge[0] !== edge[1]) joined.set(edge.join('\n'), edge);
  }
  return { boxes: shown, edges: [...joined.values()] };
}

// What a column's value is, in one line: its outermost step.
function expression(reference) {
  const [, column] = split(reference);
  if (column === '*') return '';
  const found = hop(reference);
  if (!found) return '';
  const first = derivationOf(found, column);
  if (first) return `= ${first}`;
  return found.values.length === 1 ? `= ${split(found.values[0])[1]}` : '';
}
function derivationOf(found, column) {
  const own = found.steps.filter(([name]) => name === column);
  if (!own.length) return found.steps.length ? found.steps[0][1] : null;
  const texts = distinct(own.filter(([, , partName]) => partName === own[0][2]).map(([, sql]) => sql));
  if (own[0][2] && found.values.length === 1 && texts.length === 1 && !texts[0].includes(split(found.values[0])[1]))
    texts.push(split(found.values[0])[1]);
  return texts.join(' or ');
}

function columnLineage(start) {
  const up = walkUp(start, { rows: lineageRows }),
    down = walkDown(start);
  const columns = [...new Set([...up.columns, ...down.columns])];
  return { up, down, ...folded(boxesOf(columns, start), [...up.edges, ...down.edges], start), cut: up.cut + down.cut };
}

// The list: what a column is made of, indented; a column that was listed before is only named.
function tree(start, rows) {
  const seen = new Set();
  const item = (reference, kind, depth) => {
    const [name, column] = split(reference),
      known = seen.has(reference),
      found = column === '*' ? null : hop(reference);
    seen.add(reference);
    const below =
      known || depth > 12
        ? []
        : column === '*'
          ? ((relation(name) || {}).reads || []).map((above) => item(`${above}:*`, 'counts', depth + 1))
          : found
            ? [
                ...found.values.map((from) => item(from, 'values', depth + 1)),
                ...found.counts.map((from) => item(`${from}:*`, 'counts', depth + 1)),
                ...(rows ? decides(found).map((from) => item(from, 'rows', depth + 1)) : []),
              ]
            : [];
    const word = [
      kind === 'counts' ? 'rows counted' : kind === 'rows' ? 'decides rows' : null,
      kindOf(name) === 'source' ? 'source' : null,
      known && below.length === 0 && found ? 'as above' : null,
    ];
    const says = known ? '' : expression(reference);
    return h(
      'li',
      null,
      columnLink(reference, column === '*' ? name : reference),
      word.filter(Boolean).map((one) => h('span', { class: 'faint small' }, ` ${one}`)),
      says && says !== `= ${column}` ? h('code', { class: 'says' }, says) : null,
      below.length ? h('ul', null, below) : null,
    );
  };
  return h('ul', { class: 'tree' }, item(start, 'values', 0));
}

const legend = (rows) =>
  h(
    'span',
    { class: 'legend' },
    ['source', 'model', 'view', 'service'].map((kind) =>
      h('span', { class: `key ${kind}` }, kind === 'view' ? 'feature view' : kind),
    ),
    h('span', { class: 'key line' }, 'values'),
    h('span', { class: 'key line dashed' }, 'rows counted'),
    rows ? h('span', { class: 'key line dotted' }, 'decides rows') : null,
  );

function lineageSection(start, title = 'Where it comes from') {
  const place = h('div'),
    right = h('div', { class: 'right' });
  const redraw = () => {
    const { up, boxes, edges, cut } = columnLineage(start);
    const small = narrow();
    const tooWide = boxes.length > 70;
    const shown = lineageAs || (small || tooWide ? 'list' : 'drawing');
    const choose = (as, text) =>
      h(
        'button',
        {
          type: 'button',
          'aria-pressed': String(shown === as),
          click: () => {
            lineageAs = as;
            redraw();
            right.querySelector(`[aria-pressed="true"]`).focus();
          },
        },
        text,
      );
    const box = h('input', {
      type: 'checkbox',
      id: 'decides',
      checked: lineageRows,
      change: (event) => {
        lineageRows = event.target.checked;
        redraw();
        byId('decides').focus();
      },
    });
    refill(
      right,
      shown === 'drawing' ? legend(lineageRows) : null,
      h('label', { class: 'check' }, box, 'Also what decides which rows'),
      h(
        'div',
        { class: 'segments', role: 'group', 'aria-label': 'Lineage as' },
        choose('drawing', 'Drawing'),
        choose('list', 'List'),
      ),
    );
    refill(
      place,
      shown === 'drawing'
        ? framed(boxes, edges, `Lineage of ${start}: arrows walk, Enter opens`)
        : h('div', { class: 'panel pad' }, tree(start, lineageRows)),
      cut ? h('p', { class: 'faint small more' }, `${count(cut, 'edge')} more are not drawn.`) : null,
      origin(start, lineageRows ? walkUp(start) : up),
    );
  };
  redraw();
  return h('section', { class: 'lineage-section' }, h('header', null, h('h2', null, title), right), place);
}

// A drawing that scrolls within its frame, and the strip below it.
function framed(boxes, edges, label, still) {
  const name = h('span', { class: 'ref' }),
    says = h('code'),
    word = h('span', { class: 'faint' });
  const rows = new Map(boxes.flatMap((box) => [[box.id, [box, box]], ...box.rows.map((row) => [row.id, [row, box]])]));
  const tell = (id) => {
    const [thing, box] = rows.get(id);
    refill(name, soft(thing === box ? box.title : `${box.title}:${thing.title}`));
    refill(says, thing.says || '');
    word.textContent = thing.current ? 'this one' : box.kind === 'view' ? 'feature view' : box.kind;
  };
  const svg = drawing(boxes, edges, label, still ? () => {} : tell);
  const scroll = h('div', { class: 'scroll' }, svg);
  requestAnimationFrame(() => {
    // What the page is about is in sight, however wide the drawing is.
    const current = svg.querySelector('a.current'),
      room = scroll.clientWidth - 32,
      width = Number(svg.getAttribute('width'));
    if (width > room && width < room * 1.3) {
      // a little too wide is drawn a little smaller
      svg.setAttribute('height', Math.ceil((svg.getAttribute('height') * room) / width));
      svg.setAttribute('width', room);
    }
    if (current && scroll.scrollWidth > scroll.clientWidth)
      scroll.scrollLeft = Number(current.querySelector('rect').getAttribute('x')) - scroll.clientWidth * 0.6;
  });
  return h('div', { class: 'lin' }, scroll, still ? null : h('div', { class: 'strip' }, name, says, word));
}

function origin(start, up) {
  const from = ends(up),
    found = hop(start);
  const links = from.map((reference) => {
    const [name, column] = split(reference);
    return column === '*'
      ? h('a', { class: 'ref', href: address('source', name) }, 'rows of ', soft(name))
      : columnLink(reference);
  });
  const deciding = found ? decides(found) : [];
  const relations = distinct(deciding.map((reference) => split(reference)[0]));
  return h(
    'p',
    { class: 'small muted more prose' },
    links.length
      ? ['Made from ', list(links.slice(0, 8)), links.length > 8 ? ` and ${number(links.length - 8)} more` : null, '. ']
      : null,
    deciding.length
      ? [
          `${count(deciding.length, 'column')} ${deciding.length === 1 ? 'decides' : 'decide'} which rows count, of `,
          list(relations.slice(0, 6).map(relationLink)),
          '.',
        ]
      : null,
  );
}

// Models around a view or a model: all above it, and what reads it.
function neighbourhood(thing, most = 60) {
  const names = new Set([thing.name]),
    edges = [],
    waiting = [thing.name];
  let cut = 0;
  while (waiting.length) {
    const at = waiting.shift();
    for (const above of (relation(at) || {}).reads || []) {
      if (!names.has(above)) {
        if (names.size >= most) {
          cut++;
          continue;
        }
        names.add(above);
        waiting.push(above);
      }
      edges.push([`${above}:*`, `${at}:*`, 'values']);
    }
  }
  for (const user of (thing.used_by || []).map((one) => one.name)) {
    if (!names.has(user) && names.size >= most) {
      cut++;
      continue;
    }
    names.add(user);
    edges.push([`${thing.name}:*`, `${user}:*`, 'values']);
  }
  return {
    boxes: boxesOf(
      [...names].map((name) => `${name}:*`),
      `${thing.name}:*`,
    ),
    edges,
    cut,
  };
}
function modelsSection(thing) {
  const { boxes, edges, cut } = neighbourhood(thing);
  if (boxes.length < 2) return null;
  const small = narrow();
  const body = small
    ? h('div', { class: 'panel pad' }, pairs(['Reads', list((thing.reads || []).map(relationLink))]))
    : framed(boxes, edges, `Models around ${thing.name}: arrows walk, Enter opens`, true);
  return section(
    'Where it comes from',
    'models; a feature\u2019s page shows columns',
    body,
    cut ? h('p', { class: 'faint small more' }, `${count(cut, 'model')} more are not drawn.`) : null,
  );
}
