// A feature service: which keys it asks for, and how each of its features is, the worst view first. And an entity: all
// that is known by a key.

const TROUBLE = { 'not built': 3, stale: 2, late: 1, fresh: 0, 'not known': 0 };
const trouble = (view) => (onlineWord(view) === 'missing in Redis' ? 4 : 0) + (TROUBLE[freshWord(view)] || 0);

function serviceScreen(query, name) {
  const one = service(name);
  if (!one) return missing('service', name);
  const groups = new Map(),
    gone = [];
  for (const reference of one.features) {
    const number = featureNumbers().get(reference),
      view = split(reference)[0];
    if (number === undefined) {
      if (view !== name) gone.push(reference);
    } else {
      if (!groups.has(view)) groups.set(view, []);
      groups.get(view).push(number);
    }
  }
  const views = [...groups]
    .map(([view, rows]) => ({ view: head.views[viewNumbers.get(view)], rows }))
    .sort((a, b) => trouble(b.view) - trouble(a.view));
  const entities = distinct(views.flatMap(({ view }) => view.entities));
  const worst = views.map(({ view }) => freshWord(view)).sort((a, b) => TROUBLE[b] - TROUBLE[a])[0];
  const stale = views.filter(({ view }) => TROUBLE[freshWord(view)]),
    lost = views.filter(({ view }) => onlineWord(view) === 'missing in Redis');
  const unkept = views.filter(({ view }) => onlineWord(view) === 'not kept online'),
    unknown = views.filter(({ view }) => onlineWord(view) === 'not known');
  const index = features(),
    measured = views.flatMap(({ rows }) => rows).filter((i) => index.drift[i] !== null);
  const verdict = (i) => driftKind(index.drift[i], index.verdict[i])[1];
  const drifted = measured.filter((i) => verdict(i) === 'drifted'),
    moved = measured.filter((i) => verdict(i) === 'moved');
  const runs = views
    .map(({ view }) => view.online && view.online.last_run)
    .filter(Boolean)
    .sort();
  const known = one.features.filter((reference) => featureNumbers().has(reference)),
    own = one.on_demand || [];
  return [
    name,
    crumbs('feature service'),
    heading(name, {
      chips: [one.maturity ? chip(`maturity ${one.maturity}`) : null, (one.tags || []).map((tag) => chip(tag))],
      actions: [
        copyButton(name, 'Copy name', 'btn'),
        h('a', { class: 'btn', href: '#/lookup?' + new URLSearchParams({ of: name }) }, 'Look an entity up'),
      ],
      lead: one.description || (one.label && one.label !== name ? one.label : ''),
      none: 'No description. One in the exposure\u2019s yml is shown here.',
    }),
    gone.length
      ? note(
          'error',
          h('b', null, `${count(gone.length, 'feature')} not found: `),
          list(gone.map((reference) => h('span', { class: 'ref' }, soft(reference)))),
          '. A request for the service fails until they are there.',
        )
      : null,
    facts(
      ['Owner', ownerName(one.owner), one.owner && one.owner.email ? soft(one.owner.email) : null],
      ['Asks for', list(entities.map((key) => link('entity', key))), 'keys of each row'],
      ['Features', number(one.features.length), `of ${count(views.length, 'view')}`],
      [
        'Freshness',
        stale.length
          ? state(worst === 'late' ? 'warn' : 'error', `${number(stale.length)} ${worst}`)
          : worst === 'fresh'
            ? state('pass', 'all fresh')
            : state('unknown', 'not known'),
        'the worst of its views',
      ],
      [
        'In Redis',
        lost.length
          ? state('error', `${count(lost.length, 'view')} missing`)
          : unkept.length
            ? state('warn', `${count(unkept.length, 'view')} not kept`)
            : unknown.length
              ? state('unknown', 'not known')
              : state('pass', 'all of them'),
        runs.length ? `oldest run ${duration(age(runs[0]))} ago` : null,
      ],
      [
        'Drift in 7 days',
        drifted.length
          ? state('error', `${number(drifted.length)} drifted`)
          : moved.length
            ? state('warn', `${number(moved.length)} moved`)
            : measured.length
              ? state('pass', 'none drifted')
              : state('off', 'not measured'),
        measured.length ? `${number(measured.length)} compared` : null,
      ],
    ),
    h(
      'div',
      { class: 'cols' },
      h(
        'div',
        null,
        views.length
          ? views.map(({ view, rows }) =>
              section(
                link('view', view.name),
                [freshness(view.status, view.newest, view.problem), onlineState(view.online)],
                featureTable(rows, { view: false, caption: `Features of ${view.name}` }),
              ),
            )
          : section('Features', null, empty('It names no feature that there is.')),
        own.length
          ? section(
              'Computed on request',
              `${count(own.length, 'feature')} of its own`,
              own.map((feature) => [
                h('h3', { class: 'ref more' }, soft(feature.name)),
                feature.description ? h('p', { class: 'muted small' }, feature.description) : null,
                onDemand(feature, derivation(`${name}:${feature.name}`)),
              ]),
            )
          : null,
      ),
      h(
        'aside',
        { 'aria-label': 'Using it' },
        known.length
          ? h('div', { class: 'wide' }, section('How to get it', null, getIt(known, gone.length ? null : name)))
          : null,
        section(
          'Declared',
          null,
          pairs(
            one.label ? ['Label', one.label] : null,
            one.file ? ['File', soft(one.file)] : null,
            one.url ? ['URL', one.url] : null,
          ),
        ),
      ),
    ),
  ];
}

function entityScreen(query, name) {
  const one = entity(name);
  if (!one) return missing('entity', name);
  const views = head.views.map((view, i) => i).filter((i) => head.views[i].entities.includes(name));
  const alone = views.filter((i) => head.views[i].entities.length === 1),
    joint = views.filter((i) => head.views[i].entities.length > 1);
  const services = distinct(views.flatMap((i) => head.views[i].services)).sort();
  const kept = views.filter((i) => onlineWord(head.views[i]) === 'in Redis');
  const wrong = views.filter((i) => trouble(head.views[i]));
  const groups = new Map();
  joint.forEach((i) => {
    const key = head.views[i].entities.join(' + ');
    groups.set(key, [...(groups.get(key) || []), i]);
  });
  return [
    name,
    crumbs('entity'),
    heading(name, {
      chips: one.type ? chip(one.type, null, 'type') : null,
      actions: [
        copyButton(name, 'Copy name', 'btn'),
        h('a', { class: 'btn', href: '#/lookup?' + new URLSearchParams({ entity: name }) }, 'Look one up'),
      ],
      lead: one.description,
      none: 'No description. One of the key\u2019s column in a view\u2019s yml is shown here.',
    }),
    facts(
      ['Views', number(views.length), joint.length ? `${number(joint.length)} with other keys` : 'by this key alone'],
      ['Features', number(total(views.map((i) => head.views[i].features))), 'known by it'],
      [
        'In order',
        wrong.length ? state('warn', `${count(wrong.length, 'view')} not`) : state('pass', 'all of them'),
        'fresh, and in Redis where wanted',
      ],
      ['In Redis', count(kept.length, 'view'), `of ${number(views.length)}`],
    ),
    alone.length ? section('By this key alone', null, entityViews(alone, name)) : null,
    joint.length
      ? section(
          'Together with others',
          null,
          [...groups].map(([key, rows]) => [h('h3', { class: 'ref more' }, key), entityViews(rows, name)]),
        )
      : null,
    section(
      'Services that ask for it',
      null,
      services.length
        ? h(
            'ul',
            { class: 'rows narrow' },
            services.map((other) =>
              h(
                'li',
                null,
                h('span', null, link('service', other)),
                h('span', { class: 'k' }, count(service(other).features.length, 'feature')),
              ),
            ),
          )
        : empty('None.'),
    ),
  ];
}
// The worst first; of very many only those, and the way to the list of all.
function entityViews(rows, name) {
  const by = (a, b) => trouble(b) - trouble(a) || (a.name < b.name ? -1 : 1);
  const views = rows.map((i) => head.views[i]).sort(by);
  const columns = [
    ['Feature view', ''],
    ['Means', ''],
    ['Features', 'num inline'],
    ['Newest event', 'inline'],
    ['Online', 'inline'],
    ['Owner', 'muted opt'],
  ];
  const cells = (view) => [
    link('view', view.name),
    described(view.description),
    number(view.features),
    freshness(view.status, view.newest, view.problem),
    onlineState(view.online),
    ownerName(view.owner),
  ];
  const all = h('a', { href: `#/?${new URLSearchParams({ entity: name })}` }, `All views with ${name} in the list`);
  return [
    table('Feature views', columns, views.slice(0, PAGE).map(cells), 'list entity-views'),
    views.length > PAGE ? h('p', { class: 'more' }, `${number(views.length - PAGE)} more. `, all) : null,
  ];
}
