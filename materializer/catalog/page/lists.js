// The lists behind the tabs of home that have no facets: services, entities, sources and models.

const described = (text) =>
  text ? h('span', { class: 'muted' }, text) : h('span', { class: 'faint' }, 'no description');

const PLAIN_TABS = {
  services: {
    title: 'Services',
    kind: 3,
    things: () => head.services,
    none: () => [
      'No feature service. An exposure of type ',
      h('code', null, 'ml'),
      ' with features under ',
      h('code', null, 'meta.features'),
      ' is one.',
    ],
    columns: [
      ['Service', ''],
      ['What for', ''],
      ['Owner', ''],
      ['Features', 'num inline'],
    ],
    row: (one) => [
      link('service', one.name),
      described(one.description || one.label),
      ownerName(one.owner),
      number(one.features.length),
    ],
  },
  entities: {
    title: 'Entities',
    kind: 2,
    things: () => head.entities,
    none: () => ['No entity. The keys of feature views are: ', h('code', null, 'meta.feature_view.entities'), '.'],
    columns: [
      ['Entity', ''],
      ['Type', 'ref muted'],
      ['Means', ''],
      ['Views', 'num inline'],
    ],
    row: (one) => [link('entity', one.name), one.type || DASH, described(one.description), number(one.views)],
  },
  sources: {
    title: 'Sources',
    kind: 4,
    things: sources,
    none: () => ['No source that a feature is made from.'],
    columns: [
      ['Source', ''],
      ['Means', ''],
      ['Where', 'ref muted opt'],
      ['Columns', 'num opt'],
      ['Rows', 'num inline'],
      ['Newest load', 'inline'],
    ],
    row: (one) => [
      link('source', one.name),
      described(one.description),
      soft(one.location),
      number(one.columns.length),
      number(one.rows),
      loadState(one),
    ],
  },
  models: {
    title: 'Models',
    kind: 5,
    things: models,
    none: () => ['No model besides feature views.'],
    columns: [
      ['Model', ''],
      ['Means', ''],
      ['Kind', 'muted inline'],
      ['Materialized', 'muted inline'],
      ['File', 'faint opt'],
    ],
    row: (one) => [
      link('model', one.name),
      [described(one.description), one.status === 'error' ? [' ', state('error', 'not built')] : null],
      one.kind,
      one.materialized,
      soft(one.file),
    ],
  },
};

function loadState({ newest, warn, error }) {
  if (!newest) return h('span', { class: 'faint' }, 'not known');
  const old = age(newest);
  return state(
    error && old > error ? 'error' : warn && old > warn ? 'warn' : warn || error ? 'pass' : 'unknown',
    `${duration(old)} old`,
  );
}

// The numbers of a tab's things in the order that a query gives them; null without a query.
function hitsOf(query, kind) {
  if (!query) return null;
  const all = searchable(),
    { words } = understood(query);
  return found(query)
    .filter((i) => all.kinds[i] === kind)
    .map((i) => [score(all, i, words), all.numbers[i]])
    .sort((a, b) => b[0] - a[0] || a[1] - b[1])
    .map(([, number]) => number);
}

function plainTab(tab, query, shown, more) {
  const { title, kind, things, none, columns, row } = PLAIN_TABS[tab];
  const all = things(),
    hits = hitsOf(query.get('q'), kind);
  const rows = hits ? hits.map((i) => all[i]) : [...all].sort((a, b) => (a.name < b.name ? -1 : 1));
  if (!all.length) return h('section', null, empty(none()));
  if (!rows.length)
    return nothingFits(`Nothing under \u201c${title}\u201d has every word of \u201c${query.get('q')}\u201d.`);
  return [table(title, columns, rows.slice(0, shown).map(row), `list ${tab}`), moreButton(rows.length, shown, more)];
}

function nothingFits(why, clear) {
  return h(
    'section',
    null,
    empty(
      h('p', null, h('b', null, 'Nothing fits. '), why),
      h('p', null, clear || h('a', { href: '#/' }, 'Show everything')),
    ),
  );
}
