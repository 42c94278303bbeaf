// A selection: several features as one training set and one request, with a link to share. And what is not there.

function selectionScreen(query) {
  const asked = query.getAll('f').length ? query.getAll('f') : picked.list;
  const numbers = featureNumbers(),
    known = asked.filter((reference) => numbers.has(reference)),
    gone = asked.filter((reference) => !numbers.has(reference));
  if (!known.length) {
    return [
      'Selection',
      h('h1', { tabindex: -1 }, 'Selection'),
      gone.length ? note('warn', `Not in this catalog: ${gone.join(', ')}.`) : null,
      h(
        'section',
        null,
        empty(
          h(
            'p',
            null,
            h('b', null, 'Nothing is selected. '),
            'The + at the end of a feature\u2019s row puts it here; then this page writes the training set and the request for all of them.',
          ),
          h('p', null, h('a', { href: '#/?tab=features' }, 'All features')),
        ),
      ),
    ];
  }
  const rows = known.map((reference) => numbers.get(reference)),
    views = distinct(rows.map((i) => features().view[i]));
  const entities = distinct(views.flatMap((i) => head.views[i].entities));
  const needed = [...entities, ...Object.keys(requestFields(byView(known)))];
  const shared = () =>
    location.href.split('#')[0] + '#/selection?' + new URLSearchParams(known.map((reference) => ['f', reference]));
  const mine = known.length === picked.list.length && known.every((reference) => picked.has(reference));
  const clear = h(
    'button',
    {
      type: 'button',
      class: 'text-btn',
      click: () => {
        picked.set([]);
        location.hash = '#/selection';
        draw();
      },
    },
    'Clear',
  );
  const take = h(
    'button',
    {
      type: 'button',
      class: 'text-btn',
      click: () => {
        picked.set(known);
        draw(true);
      },
    },
    'Make it my selection',
  );
  return [
    'Selection',
    h('h1', { tabindex: -1 }, 'Selection'),
    h(
      'p',
      { class: 'lead' },
      `${count(known.length, 'feature')} of ${count(views.length, 'view')}. Labels need ${needed.join(', ')} and a time.`,
    ),
    gone.length
      ? note(
          'warn',
          h('b', null, 'Not in this catalog: '),
          list(gone.map((one) => h('span', { class: 'ref' }, soft(one)))),
          '.',
        )
      : null,
    h(
      'div',
      { class: 'cols' },
      h(
        'div',
        null,
        section(
          'Features',
          [mine ? clear : take, copyButton(shared, 'Copy link')],
          featureTable(rows, { caption: 'Selected features' }),
        ),
      ),
      h(
        'aside',
        { 'aria-label': 'Using them' },
        h('div', { class: 'wide' }, section('How to get them', null, getIt(known))),
      ),
    ),
  ];
}

function missing(kind, name) {
  const near = search(name.replace(/[:._/]+/g, ' '), 5).best;
  const wider = near.length ? near : nearby(name);
  const all = searchable();
  return [
    'Not here',
    h('h1', { tabindex: -1 }, 'Not here'),
    h(
      'p',
      { class: 'lead' },
      `There is no ${kind} called \u201c${name}\u201d in this catalog, made ${moment(head.project.built_at)}.`,
    ),
    wider.length
      ? section(
          'Near it',
          null,
          h(
            'ul',
            { class: 'rows narrow' },
            wider.map((i) =>
              h(
                'li',
                null,
                h('span', null, h('a', { class: 'ref', href: hitAddress(i) }, soft(all.names[i]))),
                h('span', { class: 'k' }, KINDS[all.kinds[i]]),
              ),
            ),
          ),
        )
      : null,
    h('p', { class: 'more' }, h('a', { href: '#/' }, 'Everything there is')),
  ];
}
function elsewhere(kind, name) {
  return [
    name,
    h('h1', { tabindex: -1 }, 'Elsewhere'),
    h('p', { class: 'lead' }, link(kind, name), ` is a ${kind === 'view' ? 'feature view' : kind}.`),
  ];
}

// Names that share most of their three-letter pieces with a text: for a slip of the finger.
function nearby(text) {
  const pieces = (word) => {
    const set = new Set();
    const padded = ` ${word.toLowerCase()} `;
    for (let i = 0; i + 3 <= padded.length; i++) set.add(padded.slice(i, i + 3));
    return set;
  };
  const wanted = pieces(text),
    all = searchable(),
    best = [];
  all.names.forEach((name, i) => {
    if (Math.abs(name.length - text.length) > 12) return;
    const own = pieces(name);
    let same = 0;
    own.forEach((piece) => {
      if (wanted.has(piece)) same++;
    });
    const part = (2 * same) / (own.size + wanted.size);
    if (part > 0.4) best.push([part, i]);
  });
  return best
    .sort((a, b) => b[0] - a[0])
    .slice(0, 5)
    .map(([, i]) => i);
}
