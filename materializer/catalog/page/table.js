// The table of features, which home, a view, a service and a selection show; and what is selected.

const PAGE = 150;

// What is selected, by reference, in the order of choosing. Kept for this catalog.
const picked = {
  list: (() => {
    try {
      return JSON.parse(kept.get(`picked ${head.project.namespace}`)) || [];
    } catch {
      return [];
    }
  })(),
  has(reference) {
    return this.list.includes(reference);
  },
  set(list) {
    this.list = list;
    kept.set(`picked ${head.project.namespace}`, JSON.stringify(list));
    drawNav();
  },
  toggle(reference) {
    this.set(this.has(reference) ? this.list.filter((one) => one !== reference) : [...this.list, reference]);
  },
};

function pickButton(reference, text) {
  const look = (button) => {
    const on = picked.has(reference);
    button.setAttribute('aria-pressed', String(on));
    if (text) refill(button, icon(on ? 'M4 9.5 7.5 13 14 5.5' : 'M9 4v10M4 9h10'), on ? 'Selected' : 'Select');
    else if (on) refill(button, icon('M4 9.5 7.5 13 14 5.5'));
    else if (button.firstChild) button.replaceChildren(); // its cross is style: a list makes many of these
  };
  const button = h('button', {
    type: 'button',
    class: text ? 'btn' : 'pick',
    'aria-label': text ? null : `Select ${reference}`,
    click: () => {
      picked.toggle(reference);
      look(button);
      say(picked.has(reference) ? `${reference} selected` : `${reference} no longer selected`);
    },
  });
  look(button);
  return button;
}

const FEATURE_SORTS = {
  name: (index) => index.name,
  view: (index) => index.view.map((view) => head.views[view].name),
  type: (index) => index.type.map((type) => index.types[type]),
  nulls: (index) => index.nulls,
  drift: (index) => index.drift,
  services: (index) => index.services.map((list) => list.length),
};
const orders = new Map();
// All features in an order, and the place of each in it, worked out once.
function orderOf(sort) {
  if (!orders.has(sort)) {
    const keys = FEATURE_SORTS[sort](features()),
      order = keys.map((_, i) => i);
    const empty = (value) => value === null || value === undefined;
    order.sort((a, b) => {
      const x = keys[a],
        y = keys[b];
      if (x === y) return a - b;
      if (empty(x) || empty(y)) return empty(x) ? -1 : 1;
      return x < y ? -1 : 1;
    });
    const ranks = new Int32Array(order.length);
    order.forEach((i, rank) => {
      ranks[i] = rank;
    });
    orders.set(sort, { order, ranks });
  }
  return orders.get(sort);
}
// The first `most` of some features in an order.
function sortFeatures(rows, sort, most) {
  if (!sort) return rows.slice(0, most);
  const down = sort.startsWith('-'),
    name = down ? sort.slice(1) : sort;
  if (!FEATURE_SORTS[name]) return rows.slice(0, most);
  const { order, ranks } = orderOf(name),
    sign = down ? -1 : 1,
    size = order.length;
  if (rows.length < size / 20) return [...rows].sort((a, b) => sign * (ranks[a] - ranks[b])).slice(0, most);
  const wanted = new Uint8Array(size),
    out = [];
  for (const i of rows) wanted[i] = 1;
  for (let n = 0; n < size && out.length < most; n++) {
    const i = order[down ? size - 1 - n : n];
    if (wanted[i]) out.push(i);
  }
  return out;
}

// The rows that fit the window come at once, the others when those are painted: a click answers sooner. All at once where
// the page goes back to a place further down.
const AT_ONCE = 20;
let wholeLists = false;
function rowsOf(things, make, body = h('tbody')) {
  const now = wholeLists ? things.length : AT_ONCE;
  append(body, things.slice(0, now).map(make));
  if (things.length > now) {
    const later = () => {
      if (body.isConnected) append(body, things.slice(now).map(make));
    };
    requestAnimationFrame(() => setTimeout(later));
  }
  return body;
}

// A column's title that sorts: first up, then down; numbers first down.
function sortable(title, key, sort, set, numeric) {
  const current = sort === key ? 'ascending' : sort === '-' + key ? 'descending' : null;
  const next = current === null ? (numeric ? '-' + key : key) : current === 'ascending' ? '-' + key : key;
  return h(
    'th',
    { scope: 'col', class: numeric ? 'num' : null, 'aria-sort': current },
    h(
      'button',
      { type: 'button', id: `sort-${key}`, click: () => set(next) },
      title,
      current ? h('span', { 'aria-hidden': 'true' }, current === 'ascending' ? ' \u2191' : ' \u2193') : null,
    ),
  );
}

// `rows` are numbers in the index. `set(sort)` where it can be sorted; `view` tells whether the view is named.
function featureTable(rows, { sort = '', set = null, view = true, query = '', caption = 'Features' } = {}) {
  const index = features();
  const title = (text, key, kind) =>
    set ? sortable(text, key, sort, set, kind === 'num') : h('th', { scope: 'col', class: kind || null }, text);
  const body = rowsOf(rows, (i) => {
    const viewName = head.views[index.view[i]].name,
      name = index.name[i],
      reference = `${viewName}:${name}`;
    const services = index.services[i].length;
    return h(
      'tr',
      { 'data-row': '' },
      h(
        'td',
        { class: 'name' },
        h('a', { class: 'ref', href: address('feature', reference) }, query ? marked(name, query, true) : soft(name)),
      ),
      view ? h('td', { class: 'ref muted from' }, soft(viewName)) : null,
      h('td', { class: 'ref muted type' }, index.types[index.type[i]]),
      h(
        'td',
        { class: 'means' },
        index.description[i]
          ? h('span', { class: 'clamp' }, query ? marked(index.description[i], query) : index.description[i])
          : h('span', { class: 'faint' }, 'no description'),
      ),
      h('td', { class: 'num inline', 'data-label': 'NULL' }, share(index.nulls[i])),
      h('td', { class: 'shape' }, smallShape(index.shape[i])),
      h('td', { class: 'inline drift' }, driftCell(index.drift[i], index.verdict[i])),
      h('td', { class: 'num count-cell' }, services ? number(services) : h('span', { class: 'faint' }, DASH)),
      h('td', { class: 'pick-cell' }, pickButton(reference)),
    );
  });
  return h(
    'table',
    { class: `tbl stack features ${view ? 'with-view' : ''}` },
    h('caption', { class: 'sr' }, caption),
    h(
      'thead',
      null,
      h(
        'tr',
        null,
        title('Feature', 'name'),
        view ? title('View', 'view') : null,
        title('Type', 'type'),
        h('th', { scope: 'col' }, 'Meaning'),
        title('NULL', 'nulls', 'num'),
        h('th', { scope: 'col' }, 'Values'),
        title('Drift', 'drift'),
        title('Services', 'services', 'num'),
        h('th', { scope: 'col' }, h('span', { class: 'sr' }, 'Select')),
      ),
    ),
    body,
  );
}

function moreButton(all, shown, more) {
  if (all <= shown) return null;
  return h(
    'p',
    { class: 'more' },
    h(
      'button',
      { type: 'button', class: 'btn', id: 'more', click: more },
      `Show ${number(Math.min(PAGE, all - shown))} more of ${number(all)}`,
    ),
  );
}
