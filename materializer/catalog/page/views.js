// The table of feature views: under their keys, or sorted by anything else.

const VIEW_SORTS = {
  name: (view) => view.name,
  owner: (view) => ownerName(view.owner),
  features: (view) => view.features,
  newest: (view) => (view.newest ? -age(view.newest) : null),
  online: (view) => (view.online && view.online.published ? view.online.rows || 0 : null),
  used: (view) => view.used,
};
function sortViews(rows, sort) {
  const down = sort.startsWith('-'),
    key = VIEW_SORTS[down ? sort.slice(1) : sort];
  if (!key) return rows;
  const keys = new Map(rows.map((i) => [i, key(head.views[i])])),
    sign = down ? -1 : 1;
  return [...rows].sort((a, b) => {
    const x = keys.get(a),
      y = keys.get(b);
    if (x === y) return a - b;
    if (x === null || y === null) return (x === null ? -1 : 1) * sign;
    return (x < y ? -1 : 1) * sign;
  });
}

function viewRow(view, query) {
  const more =
    view.features > view.first.length
      ? [' \u00b7 ', h('a', { href: address('view', view.name) }, `${number(view.features - view.first.length)} more`)]
      : null;
  return h(
    'tr',
    { 'data-row': '' },
    h(
      'td',
      { class: 'name' },
      h(
        'a',
        { class: 'ref', href: address('view', view.name) },
        query ? marked(view.name, query, true) : soft(view.name),
      ),
      view.found
        ? h(
            'a',
            { class: 'found small', href: '#/findings?' + new URLSearchParams({ view: view.name }) },
            count(view.found, 'finding'),
          )
        : null,
      view.description
        ? h('span', { class: 'what' }, query ? marked(view.description, query) : view.description)
        : h('span', { class: 'what faint' }, 'no description'),
      h(
        'span',
        { class: 'flist' },
        view.first.flatMap((name, index) => [
          index ? ' \u00b7 ' : '',
          h('a', { href: address('feature', `${view.name}:${name}`) }, name),
        ]),
        more,
      ),
    ),
    h('td', { class: 'muted own' }, ownerName(view.owner)),
    h('td', { class: 'num inline', 'data-label': 'Features' }, number(view.features)),
    h('td', { class: 'inline' }, freshness(view.status, view.newest, view.problem)),
    h('td', { class: 'inline' }, onlineState(view.online)),
    h('td', { class: 'num count-cell' }, view.used ? number(view.used) : h('span', { class: 'faint' }, DASH)),
  );
}

// Views under their keys, the keys in order; sorted by anything else they stand alone.
function viewTable(rows, sort, set, query, shown) {
  const grouped = !sort && !query;
  let ordered = rows;
  if (grouped) {
    const key = (i) => head.views[i].entities.join('\u0000');
    const named = new Map(rows.map((i) => [i, key(i)]));
    ordered = [...rows].sort((a, b) => {
      const x = head.views[a],
        y = head.views[b];
      return (
        x.entities.length - y.entities.length ||
        (named.get(a) < named.get(b) ? -1 : named.get(a) > named.get(b) ? 1 : x.name < y.name ? -1 : 1)
      );
    });
  } else if (sort) ordered = sortViews(rows, sort);
  const bodies = [];
  let last = null,
    group = null;
  const sizes = new Map();
  if (grouped)
    ordered.forEach((i) => {
      const key = head.views[i].entities.join('\u0000');
      sizes.set(key, (sizes.get(key) || 0) + 1);
    });
  for (const i of ordered.slice(0, shown)) {
    const view = head.views[i],
      key = view.entities.join('\u0000');
    if (!group || (grouped && key !== last)) {
      const body = h('tbody');
      group = { body, rows: [] };
      bodies.push(group);
      if (grouped) {
        const one = view.entities.length === 1 ? entity(view.entities[0]) : null;
        body.append(
          h(
            'tr',
            { class: 'group' },
            h(
              'th',
              { colspan: 6, scope: 'rowgroup' },
              view.entities.flatMap((name, index) => [
                index ? h('span', { class: 'plus' }, ' + ') : null,
                link('entity', name),
              ]),
              h(
                'span',
                { class: 'faint' },
                `\u2002${count(sizes.get(key), 'view')}`,
                one && one.description ? ` \u00b7 ${one.description}` : null,
              ),
            ),
          ),
        );
      }
      last = key;
    }
    group.rows.push(view);
  }
  const title = (text, key, numeric) => sortable(text, key, sort, set, numeric);
  return h(
    'table',
    { class: 'tbl stack views' },
    h('caption', { class: 'sr' }, 'Feature views'),
    h(
      'thead',
      null,
      h(
        'tr',
        null,
        title('Feature view', 'name'),
        title('Owner', 'owner'),
        title('Features', 'features', true),
        title('Newest event', 'newest'),
        title('Online', 'online'),
        title('Used by', 'used', true),
      ),
    ),
    bodies.map(({ body, rows }) => rowsOf(rows, (view) => viewRow(view, query), body)),
  );
}
