// Findings: what is wrong, by kind with its remedy once; and what was checked, also where nothing was found.

const REMEDIES = {
  build: 'dbt build -s VIEW',
  freshness: 'look at the last dbt build, then at the sources: dbt source freshness',
  online: 'materialize VIEW',
  test: 'dbt test -s VIEW',
  drift: 'compare the two histograms, then look at what changed upstream',
  duplicate: 'keep one of them, and read it from there',
  lint: 'use the event time of the row in place of the clock',
};
// Findings of which kinds a check gives.
const KINDS_OF_CHECK = { tests: ['test'], lint: ['lint', 'leak', 'duplicate', 'service', 'undocumented'] };

function checksTable() {
  const checks = part('findings').checks;
  if (!checks.length) return empty('Nothing was checked: there is no feature view.');
  return table(
    'Checks',
    [
      ['Check', ''],
      ['Looks at', 'muted'],
      ['Looked at', 'num inline'],
      ['Found', 'inline'],
      ['When', 'muted nowrap inline'],
    ],
    checks.map((check) => {
      const kinds = KINDS_OF_CHECK[check.name] || [check.name],
        own = findings().filter((finding) => kinds.includes(finding.kind));
      const worst = own.some((finding) => finding.severity === 'error') ? 'error' : 'warn';
      const skipped = check.skipped || check.problem;
      return [
        sentence(check.name),
        skipped ? [check.what, '. ', h('b', null, 'Not checked: '), coded(skipped)] : check.what,
        number(check.count),
        skipped
          ? state('unknown', 'not checked')
          : own.length
            ? h(
                'a',
                {
                  href:
                    '#/findings?' +
                    new URLSearchParams(distinct(own.map((one) => one.kind)).map((kind) => ['kind', kind])),
                },
                state(worst, number(own.length)),
              )
            : check.count
              ? state('pass', 'nothing')
              : state('off', 'nothing to look at'),
        moment(check.at),
      ];
    }),
    'list checks',
  );
}

function findingsScreen(query) {
  const all = findings();
  if (!all.length) {
    return [
      'Findings',
      h('h1', { tabindex: -1 }, 'Findings'),
      h(
        'p',
        { class: 'lead' },
        part('findings').checks.length
          ? 'Nothing was found. These were the checks:'
          : 'Nothing was found, and nothing was checked.',
      ),
      h('section', null, checksTable()),
    ];
  }
  const viewOf = all.map((finding) => split(finding.ref)[0]);
  const facets = [
    facet('severity', 'Severity', all.length, (i) => all[i].severity),
    facet('kind', 'Kind', all.length, (i) => all[i].kind),
    facet(
      'owner',
      'Owner',
      all.length,
      (i) => (typeof all[i].owner === 'string' ? all[i].owner : ownerKey(all[i].owner)) || 'nobody',
    ),
  ];
  const side = h('div', { class: 'fs', role: 'group', 'aria-label': 'Facets' }),
    results = h('div', { class: 'results' });
  let shown = PAGE;
  const set = () => {
    replaceAddress(`#/findings${query.size ? '?' + query : ''}`);
    shown = PAGE;
    update();
  };
  const change = (key, value, on) => {
    const left = query.getAll(key).filter((one) => one !== value);
    query.delete(key);
    (on ? [...left, value] : left).forEach((one) => query.append(key, one));
    set();
  };
  const update = () =>
    keepFocus(() => {
      const views = query.getAll('view'),
        among = views.length ? all.map((_, i) => i).filter((i) => views.includes(viewOf[i])) : null;
      const chosen = chosenFrom(query, facets),
        { rows, counts } = chosenOf(facets, chosen, all.length, among);
      refill(side, facetBoxes(facets, counts, chosen, change, update));
      refill(
        results,
        activeChips(query, [...facets, { key: 'view', label: 'View' }], count(rows.length, 'finding'), set),
        rows.length
          ? findingsTable(
              rows.map((i) => all[i]),
              shown,
            )
          : nothingFits('No finding has all of these facets.', h('a', { href: '#/findings' }, 'Show all findings')),
        moreButton(rows.length, shown, () => {
          shown += PAGE;
          update();
        }),
      );
    });
  update();
  const { error = 0, warn = 0 } = head.counts.findings;
  return [
    'Findings',
    h('h1', { tabindex: -1 }, 'Findings'),
    h(
      'p',
      { class: 'summary' },
      error ? state('error', count(error, 'error')) : state('pass', 'no errors'),
      warn ? state('warn', count(warn, 'warning')) : null,
      h('span', { class: 'faint' }, `as of ${moment(head.project.built_at)}`),
    ),
    h(
      'div',
      { class: 'home' },
      facetFrame(side),
      h('div', null, results, section('What was checked', null, checksTable())),
    ),
  ];
}

function findingsTable(list, shown) {
  const groups = new Map();
  for (const finding of list) {
    const key = `${finding.severity === 'error' ? 0 : 1} ${finding.kind}`;
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(finding);
  }
  let left = shown;
  const bodies = [...groups]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, group]) => {
      if (left <= 0) return null;
      const { severity, kind } = group[0],
        here = group.slice(0, left),
        remedy = (part('findings').remedies || {})[kind] || REMEDIES[kind];
      left -= here.length;
      return h(
        'tbody',
        null,
        h(
          'tr',
          { class: 'group' },
          h(
            'th',
            { colspan: 3, scope: 'rowgroup' },
            h(
              'h2',
              null,
              state(severity === 'error' ? 'error' : 'warn', sentence(kind)),
              h(
                'span',
                { class: 'faint' },
                `\u2002${number(group.length)}${remedy ? ' \u00b7 ' : ''}`,
                remedy ? coded(remedy) : null,
              ),
            ),
          ),
        ),
        here.map((finding) =>
          h(
            'tr',
            { 'data-row': '' },
            h(
              'td',
              { class: 'name' },
              anyAddress(finding.ref)
                ? h('a', { class: 'ref', href: anyAddress(finding.ref) }, soft(finding.ref))
                : h('span', { class: 'ref' }, soft(finding.ref)),
            ),
            h(
              'td',
              null,
              coded(finding.what),
              finding.other && anyAddress(finding.other)
                ? [' ', h('a', { class: 'u', href: anyAddress(finding.other) }, 'Open the other')]
                : null,
              finding.file ? h('span', { class: 'what faint' }, soft(finding.file)) : null,
            ),
            h(
              'td',
              { class: 'muted' },
              typeof finding.owner === 'string' ? words(finding.owner) : ownerName(finding.owner),
            ),
          ),
        ),
      );
    });
  return h(
    'table',
    { class: 'tbl stack findings' },
    h('caption', { class: 'sr' }, 'Findings'),
    h(
      'thead',
      null,
      h(
        'tr',
        null,
        ['Where', 'What', 'Owner'].map((title) => h('th', { scope: 'col' }, title)),
      ),
    ),
    bodies,
  );
}
