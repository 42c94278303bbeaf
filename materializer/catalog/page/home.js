// Home: what there is, by key, and whether anything is wrong.

const FRESH_WORDS = { pass: 'fresh', warn: 'late', error: 'stale' };
function freshWord(view) {
  if (view.problem && !view.newest) return 'not built';
  return FRESH_WORDS[view.status] || 'not known';
}
function onlineWord({ online }) {
  if (!online || online.wanted === null || online.wanted === undefined) return 'not known';
  if (!online.wanted) return 'not kept online';
  return online.published ? 'in Redis' : online.published === false ? 'missing in Redis' : 'not known';
}

const viewFacets = once(() => {
  const views = head.views,
    n = views.length;
  return [
    facet('entity', 'Entity', n, (i) => views[i].entities),
    facet('owner', 'Owner', n, (i) => ownerKey(views[i].owner)),
    facet('fresh', 'Freshness', n, (i) => freshWord(views[i])),
    facet('online', 'Online', n, (i) => onlineWord(views[i])),
    facet('service', 'Service', n, (i) => views[i].services),
    facet('type', 'Type', n, (i) => views[i].types),
    facet('tag', 'Tag', n, (i) => views[i].tags),
  ];
});
const featureFacets = once(() => {
  const index = features(),
    n = index.name.length,
    views = head.views;
  const fresh = views.map(freshWord),
    online = views.map(onlineWord),
    owner = views.map((view) => ownerKey(view.owner));
  const lists = new Map();
  const services = index.services.map((ids) => {
    const key = ids.join();
    if (!lists.has(key))
      lists.set(
        key,
        ids.map((id) => head.services[id].name),
      );
    return lists.get(key);
  });
  const drift = index.drift
    .map((psi, i) => driftKind(psi, index.verdict[i])[1])
    .map((word) => (word === DASH ? 'not measured' : word));
  return [
    facet('entity', 'Entity', n, (i) => views[index.view[i]].entities),
    facet('owner', 'Owner', n, (i) => owner[index.view[i]]),
    facet('fresh', 'Freshness', n, (i) => fresh[index.view[i]]),
    facet('online', 'Online', n, (i) => online[index.view[i]]),
    facet('drift', 'Drift', n, (i) => drift[i]),
    facet('service', 'Service', n, (i) => services[i]),
    facet('type', 'Type', n, (i) => index.families[index.family[i]]),
    facet('tag', 'Tag', n, (i) => views[index.view[i]].tags),
  ];
});

function summary() {
  const views = head.views,
    { findings, features: all } = head.counts;
  const stale = views.filter((view) => ['stale', 'not built'].includes(freshWord(view))).length;
  const late = views.filter((view) => freshWord(view) === 'late').length;
  const unknown = views.filter((view) => freshWord(view) === 'not known').length;
  const missing = views.filter((view) => onlineWord(view) === 'missing in Redis').length;
  const online = views.filter((view) => onlineWord(view) === 'in Redis').length;
  const notAsked = views.filter((view) => onlineWord(view) === 'not known').length;
  const found = (findings.error || 0) + (findings.warn || 0);
  const to = (values, kind, text) => h('a', { href: '#/?' + new URLSearchParams(values) }, state(kind, text));
  const news = views.length
    ? [
        stale
          ? to(
              [
                ['fresh', 'stale'],
                ['fresh', 'not built'],
              ],
              'error',
              `${number(stale)} stale or not built`,
            )
          : null,
        missing ? to([['online', 'missing in Redis']], 'error', `${number(missing)} missing in Redis`) : null,
        found
          ? h('a', { href: '#/findings' }, state(findings.error ? 'error' : 'warn', count(found, 'finding')))
          : null,
        late ? to([['fresh', 'late']], 'warn', `${number(late)} late`) : null,
        unknown && unknown < views.length
          ? to([['fresh', 'not known']], 'unknown', `${number(unknown)} of unknown age`)
          : null,
        stale || late || unknown
          ? unknown === views.length
            ? state('unknown', 'freshness not known')
            : null
          : to([], 'pass', 'all fresh'),
        notAsked === views.length ? state('unknown', 'Redis was not asked') : null,
        missing || !online
          ? null
          : to(
              [['online', 'in Redis']],
              'pass',
              online === views.length ? `all ${number(online)} in Redis` : `${number(online)} in Redis, as wanted`,
            ),
        found ? null : h('a', { href: '#/findings' }, state('pass', 'nothing found')),
      ]
    : [];
  const counts = [
    count(views.length, 'view'),
    count(all, 'feature'),
    count(head.entities.length, 'entity'),
    count(head.services.length, 'service'),
  ];
  return h(
    'p',
    { class: 'summary' },
    h('span', null, counts.join(' \u00b7 ')),
    news,
    h('span', { class: 'faint' }, `as of ${moment(head.project.built_at)}`),
  );
}

function noViews() {
  return h(
    'section',
    null,
    empty(
      h(
        'p',
        null,
        h('b', null, 'No feature view yet. '),
        'A feature view is a dbt model with entities under ',
        h('code', null, 'meta.feature_view'),
        ':',
      ),
      code(
        `models:
  - name: user_purchases
    config:
      meta:
        feature_view: {entities: [user_id], ttl: 30 days}`,
        'shell',
        'models/user_purchases.yml',
      ),
      h(
        'p',
        null,
        'Then ',
        h('code', null, 'dbt build'),
        ', and make this page again: ',
        h('code', null, 'feature-store catalog build'),
        '.',
      ),
    ),
  );
}

const TABS = [
  ['views', 'Feature views', () => head.views.length],
  ['features', 'Features', () => head.counts.features],
  ['services', 'Services', () => head.services.length],
  ['entities', 'Entities', () => head.entities.length],
  ['sources', 'Sources', () => head.counts.sources],
  ['models', 'Models', () => head.counts.models],
];

function home(query) {
  const tab = TABS.some(([name]) => name === query.get('tab')) ? query.get('tab') : 'views';
  const hasFacets = tab === 'views' || tab === 'features';
  const results = h('div', { class: 'results' }),
    side = h('div', { class: 'fs', role: 'group', 'aria-label': 'Facets' });
  let shown = PAGE;
  const tabs = TABS.map(([name, title, n]) => {
    const to = new URLSearchParams(query);
    to.delete('sort');
    name === 'views' ? to.delete('tab') : to.set('tab', name);
    return h(
      'a',
      { href: `#/${to.size ? '?' + to : ''}`, 'aria-current': name === tab ? 'page' : null },
      title,
      ' ',
      h('span', { class: 'count' }, number(n())),
    );
  });
  const facets = !hasFacets ? [] : tab === 'views' ? viewFacets() : featureFacets();
  const change = (key, value, on) => {
    const values = query.getAll(key).filter((one) => one !== value);
    query.delete(key);
    (on ? [...values, value] : values).forEach((one) => query.append(key, one));
    set();
  };
  const set = () => {
    replaceAddress(`#/${query.size ? '?' + query : ''}`);
    shown = PAGE;
    update();
  };
  const sortBy = (sort) => {
    query.set('sort', sort);
    set();
  };
  const showMore = () => {
    shown += PAGE;
    update();
  };

  function update() {
    keepFocus(() => {
      const text = query.get('q') || '';
      if (!hasFacets) {
        refill(
          results,
          activeChips(query, [], '', () => {
            location.hash = `#/?tab=${tab}`;
          }),
          plainTab(tab, query, shown, showMore),
        );
        return;
      }
      const size = tab === 'views' ? head.views.length : head.counts.features;
      const among = hitsOf(text, tab === 'views' ? 0 : 1);
      const chosen = chosenFrom(query, facets),
        { rows, counts } = chosenOf(facets, chosen, size, among);
      const sort = query.get('sort') || '';
      refill(side, facetBoxes(facets, counts, chosen, change, update));
      const what = count(rows.length, tab === 'views' ? 'feature view' : 'feature');
      const chips = activeChips(query, facets, what, set);
      if (chips) say(what);
      const body = !rows.length
        ? nothingFits(
            text
              ? `No ${tab === 'views' ? 'feature view' : 'feature'} has every word of \u201c${text}\u201d${facets.some((one) => chosen[one.key].length) ? ' and these facets' : ''}.`
              : `No ${tab === 'views' ? 'view' : 'feature'} has all of these facets.`,
          )
        : tab === 'views'
          ? viewTable(rows, sort, sortBy, text, shown)
          : featureTable(sortFeatures(rows, sort || (text ? '' : 'name'), shown), {
              sort: sort || (text ? '' : 'name'),
              set: sortBy,
              query: text,
            });
      refill(results, chips, body, moreButton(rows.length, shown, showMore));
    });
  }
  if (head.views.length || !hasFacets) update();
  else refill(results, noViews());
  const main = h('div', null, h('nav', { class: 'tabs', 'aria-label': 'Kinds' }, tabs), results);
  return [
    'Catalog',
    h('h1', { tabindex: -1 }, head.project.name),
    summary(),
    hasFacets && head.views.length
      ? h('div', { class: 'home' }, facetFrame(side), main)
      : h('div', { class: 'home alone' }, main),
  ];
}
