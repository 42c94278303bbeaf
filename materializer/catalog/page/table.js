// The table of features, which home, a view, a service and a selection show; and what is selected.

const PAGE = 150;

// What is selected, by reference, in the order of choosing. Kept for this catalog.
const picked = {
  list: (() => { try { return JSON.parse(kept.get(`picked ${head.project.namespace}`)) || []; } catch { return []; } })(),
  has(reference) { return this.list.includes(reference); },
  set(list) {
    this.list = list;
    kept.set(`picked ${head.project.namespace}`, JSON.stringify(list));
    drawNav();
  },
  toggle(reference) { this.set(this.has(reference) ? this.list.filter((one) => one !== reference) : [...this.list, reference]); },
};

function pickButton(reference, text) {
  const look = (button) => {
    const on = picked.has(reference);
    button.setAttribute('aria-pressed', String(on));
    if (text) refill(button, icon(on ? 'M4 9.5 7.5 13 14 5.5' : 'M9 4v10M4 9h10'), on ? 'Selected' : 'Select');
    else refill(button, icon(on ? 'M4 9.5 7.5 13 14 5.5' : 'M9 4v10M4 9h10'));
  };
  const button = h('button', {
    type: 'button', class: text ? 'btn' : 'pick', 'aria-label': text ? null : `Select ${reference}`,
    click: () => { picked.toggle(reference); look(button); say(picked.has(reference) ? `${reference} selected` : `${reference} no longer selected`); },
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
const keysOf = new Map();
// The place of each feature in an order, worked out once.
function orderOf(sort) {
  if (!keysOf.has(sort)) {
    const keys = FEATURE_SORTS[sort](features()), order = keys.map((_, i) => i);
    const empty = (value) => value === null || value === undefined;
    order.sort((a, b) => {
      const x = keys[a], y = keys[b];
      if (x === y) return a - b;
      if (empty(x) || empty(y)) return empty(x) ? -1 : 1;
      return x < y ? -1 : 1;
    });
    const ranks = new Int32Array(order.length);
    order.forEach((i, rank) => { ranks[i] = rank; });
    keysOf.set(sort, ranks);
  }
  return keysOf.get(sort);
}
function sortFeatures(rows, sort) {
  if (!sort) return rows;
  const down = sort.startsWith('-'), name = down ? sort.slice(1) : sort;
  if (!FEATURE_SORTS[name]) return rows;
  const ranks = orderOf(name), sign = down ? -1 : 1;
  return [...rows].sort((a, b) => sign * (ranks[a] - ranks[b]));
}

// A column's title that sorts: first up, then down; numbers first down.
function sortable(title, key, sort, set, numeric) {
  const current = sort === key ? 'ascending' : sort === '-' + key ? 'descending' : null;
  const next = current === null ? (numeric ? '-' + key : key) : current === 'ascending' ? '-' + key : key;
  return h('th', { scope: 'col', class: numeric ? 'num' : null, 'aria-sort': current },
    h('button', { type: 'button', id: `sort-${key}`, click: () => set(next) }, title, current ? h('span', { 'aria-hidden': 'true' }, current === 'ascending' ? ' \u2191' : ' \u2193') : null));
}

// `rows` are numbers in the index. `set(sort)` where it can be sorted; `view` tells whether the view is named.
function featureTable(rows, { sort = '', set = null, view = true, query = '', shown = PAGE, caption = 'Features' } = {}) {
  const index = features();
  const title = (text, key, kind) => (set ? sortable(text, key, sort, set, kind === 'num') : h('th', { scope: 'col', class: kind || null }, text));
  const body = rows.slice(0, shown).map((i) => {
    const viewName = head.views[index.view[i]].name, name = index.name[i], reference = `${viewName}:${name}`;
    const services = index.services[i].length;
    return h('tr', { 'data-row': '' },
      h('td', { class: 'name' }, h('a', { class: 'ref', href: address('feature', reference) }, query ? marked(name, query, true) : soft(name))),
      view ? h('td', { class: 'ref muted from' }, soft(viewName)) : null,
      h('td', { class: 'ref muted type' }, index.types[index.type[i]]),
      h('td', { class: 'means' }, index.description[i] ? h('span', { class: 'clamp' }, query ? marked(index.description[i], query) : index.description[i]) : h('span', { class: 'faint' }, 'no description')),
      h('td', { class: 'num inline', 'data-label': 'NULL' }, share(index.nulls[i])),
      h('td', { class: 'shape' }, smallShape(index.shape[i])),
      h('td', { class: 'inline drift' }, driftCell(index.drift[i], index.verdict[i])),
      h('td', { class: 'num count-cell' }, services ? number(services) : h('span', { class: 'faint' }, DASH)),
      h('td', { class: 'pick-cell' }, pickButton(reference)));
  });
  return h('table', { class: `tbl stack features ${view ? 'with-view' : ''}` },
    h('caption', { class: 'sr' }, caption),
    h('thead', null, h('tr', null, title('Feature', 'name'), view ? title('View', 'view') : null, title('Type', 'type'),
      h('th', { scope: 'col' }, 'Meaning'), title('NULL', 'nulls', 'num'), h('th', { scope: 'col' }, 'Values'),
      title('Drift', 'drift'), title('Services', 'services', 'num'), h('th', { scope: 'col' }, h('span', { class: 'sr' }, 'Select')))),
    h('tbody', null, body));
}

function moreButton(all, shown, more) {
  if (all <= shown) return null;
  return h('p', { class: 'more' }, h('button', { type: 'button', class: 'btn', id: 'more', click: more }, `Show ${number(Math.min(PAGE, all - shown))} more of ${number(all)}`));
}
