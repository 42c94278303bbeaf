// A view: its features in one table, the models around it, and whether it is built, fresh and online.

const MANY = 13; // from so many features on, a view's table can be filtered

function viewScreen(query, name) {
  const view = whole('view', name);
  if (!view) return missing('feature view', name);
  const row = head.views[viewNumbers.get(name)],
    fresh = view.freshness || {},
    online = view.online || {};
  const first = firstFeature()[viewNumbers.get(name)],
    all = Array.from({ length: view.features.length }, (_, i) => first + i);
  const users = view.used_by || [],
    services = users.filter((user) => user.kind === 'service').length;
  const viewTests = (view.tests || []).filter((test) => !test.column),
    columnTests = (view.tests || []).filter((test) => test.column);
  const found = (foundFor().get(name) || []).filter((finding) => !(view.problem && finding.kind === 'build'));
  return [
    name,
    crumbs(list(view.entities.map((key) => h('a', { href: address('entity', key) }, key))), 'feature view'),
    heading(name, {
      chips: [view.version ? chip(`version ${view.version}`) : null, tagChips(view.tags || [])],
      actions: [copyButton(name, 'Copy name', 'btn')],
      lead: view.description,
      none: 'No description. One in the model\u2019s yml is shown here, in dbt\u2019s docs and by feature-store show.',
    }),
    view.problem ? note('error', h('b', null, 'Not in order. '), said(view.problem)) : null,
    findingNotes(found, name),
    facts(
      ownerFact(view.owner),
      [
        view.entities.length > 1 ? 'Keys' : 'Key',
        list(view.entities.map((key) => link('entity', key))),
        view.timestamp ? ['time: ', soft(view.timestamp)] : 'no time column',
      ],
      [
        'Rows',
        number(fresh.rows),
        typeof fresh.entities === 'number' ? `${number(fresh.entities)} different keys` : 'not counted',
      ],
      [
        'Newest event',
        freshness(fresh.status, fresh.newest_event, view.problem),
        view.ttl_seconds ? `ttl ${duration(view.ttl_seconds)}` : 'no ttl',
      ],
      [
        'In Redis',
        onlineState(view.online),
        online.last_run
          ? `materialized ${duration(age(online.last_run))} ago`
          : online.wanted && online.published === false
            ? 'never materialized'
            : null,
      ],
      ['Used by', count(services, 'service'), count(users.length - services, 'model')],
    ),
    featuresOf(view, all, query),
    h(
      'div',
      { class: 'cols' },
      h('div', null, modelsSection(view), freshnessSection(view), sqlSection(view, null)),
      h(
        'aside',
        { 'aria-label': 'Using it' },
        h(
          'div',
          { class: 'wide' },
          section(
            'How to get it',
            null,
            getIt(all.slice(0, 40).map(referenceOf)),
            all.length > 40
              ? h(
                  'p',
                  { class: 'faint small more' },
                  `The first 40 of ${number(all.length)} features; select others with +.`,
                )
              : null,
          ),
        ),
        section('Used by', null, usedList(users, trainingSetsOf(name))),
        onlineSection(view, null),
        section(
          'Tests',
          null,
          viewTests.length
            ? testList(viewTests)
            : columnTests.length
              ? null
              : empty(
                  'No test. ',
                  h('code', null, 'feature_store.feature_view'),
                  ' is the first to add: it checks keys, times and types.',
                ),
          columnTests.length ? foldedTests(columnTests, viewTests.length > 0) : null,
        ),
        section(
          'Declared',
          null,
          pairs(
            view.file ? ['File', soft(view.file)] : null,
            view.relation ? ['Relation', h('span', { class: 'ref' }, soft(view.relation))] : null,
            view.created_timestamp ? ['Known since', h('span', { class: 'ref' }, view.created_timestamp)] : null,
            view.available_after_seconds ? ['Known after', duration(view.available_after_seconds)] : null,
            row.entities.length ? ['Contract', view.contract ? 'enforced' : 'none'] : null,
          ),
        ),
        versionsSection(view),
      ),
    ),
  ];
}

function foldedTests(tests, folded) {
  const failed = tests.filter((test) => (TESTED[test.status] || [])[0] === 'error');
  return [
    failed.length ? testList(failed) : null,
    failed.length < tests.length
      ? h(
          'details',
          { class: 'more', open: !folded },
          h('summary', null, `${number(tests.length - failed.length)} on columns`),
          testList(tests.filter((test) => !failed.includes(test))),
        )
      : null,
  ];
}

function featuresOf(view, all, query) {
  const place = h('div'),
    tally = h('span', { 'aria-live': 'polite' });
  const index = features();
  const put = (key, value) => {
    value ? query.set(key, value) : query.delete(key);
    replaceAddress(address('view', view.name, query.size ? query : null));
    update();
  };
  const update = () =>
    keepFocus(() => {
      const text = query.get('q') || '',
        { words } = understood(text);
      const rows = all.filter((i) =>
        words.every((word) =>
          `${index.name[i]} ${index.description[i]} ${index.types[index.type[i]]}`.toLowerCase().includes(word),
        ),
      );
      const sort = query.get('sort') || '';
      tally.textContent = text ? `${number(rows.length)} of ${number(all.length)}` : count(all.length, 'feature');
      refill(
        place,
        rows.length
          ? featureTable(sortFeatures(rows, sort, rows.length), {
              sort,
              set: (next) => put('sort', next),
              view: false,
              query: text,
            })
          : empty(
              all.length
                ? `No feature of this view has \u201c${text}\u201d.`
                : 'The view has keys and times, and no other column: a column besides those is a feature.',
            ),
      );
    });
  update();
  const filter =
    all.length >= MANY
      ? h('input', {
          type: 'search',
          id: 'filter',
          class: 'filter',
          'aria-label': 'Filter the features',
          placeholder: `Filter ${all.length} features`,
          value: query.get('q') || '',
          input: (event) => put('q', event.target.value),
        })
      : null;
  return section('Features', [filter, tally], place);
}
