// A source or a model: per column, which features hold its values and of how many it decides the rows.

function relationScreen(kind) {
  return (query, name) => {
    const thing = whole(kind, name);
    if (!thing) return kindOf(name) && kindOf(name) !== kind ? elsewhere(kindOf(name), name) : missing(kind, name);
    const all = reachesOfRelation(thing),
      services = distinct([...all.values, ...all.rows].flatMap(servicesOf)).sort();
    const column = query.get('column'),
      columns = thing.columns || [];
    const reached = [
      [
        'Features made from it',
        number(all.values.length),
        all.rows.length ? `rows of ${number(all.rows.length)} more depend on it` : null,
      ],
      [
        'Services it reaches',
        number(services.length),
        services.length
          ? list(services.slice(0, 3).map((one) => h('a', { href: address('service', one) }, soft(one))))
          : null,
      ],
    ];
    return [
      name,
      crumbs(kind === 'source' ? 'source' : thing.kind || 'model'),
      heading(name, {
        chips: [thing.materialized ? chip(thing.materialized) : null],
        actions: [copyButton(name, 'Copy name', 'btn')],
        lead: thing.description,
        none: `No description. One in the ${kind}\u2019s yml is shown here.`,
      }),
      thing.status === 'error' ? note('error', h('b', null, 'Not built'), ' in the last run.') : null,
      thing.problem ? note('error', said(thing.problem)) : null,
      findingNotes(foundFor().get(name) || [], name),
      kind === 'source'
        ? facts(
            ['Rows', number(thing.rows), soft(thing.location || '')],
            [
              'Newest load',
              loadState({
                newest: thing.newest_load,
                warn: thing.warn_after_seconds,
                error: thing.error_after_seconds,
              }),
              [
                thing.warn_after_seconds ? `warn ${duration(thing.warn_after_seconds)}` : null,
                thing.error_after_seconds ? `error ${duration(thing.error_after_seconds)}` : null,
              ]
                .filter(Boolean)
                .join(', ') || 'no limit set',
            ],
            ...reached,
          )
        : facts(
            ['Columns', number(columns.length), thing.relation ? soft(thing.relation) : null],
            [
              'Reads',
              number((thing.reads || []).length),
              list((thing.reads || []).slice(0, 3).map((one) => soft(one))),
            ],
            ...reached,
          ),
      columns.length
        ? columnsTable(thing, kind, column)
        : section('Columns', null, empty('No column is known: the relation is not built, and none is declared.')),
      column ? columnSection(name, column, columns) : null,
      h(
        'div',
        { class: 'cols' },
        h(
          'div',
          null,
          kind === 'model' ? modelsSection(thing) : null,
          thing.sql
            ? sqlSection(thing, null)
            : section(
                'Declared',
                null,
                pairs(
                  thing.file ? ['File', soft(thing.file)] : null,
                  thing.location ? ['Location', soft(thing.location)] : null,
                  thing.loaded_at ? ['Loaded at', h('span', { class: 'ref' }, thing.loaded_at)] : null,
                ),
              ),
        ),
        h(
          'aside',
          { 'aria-label': 'Around it' },
          section('Read by', null, usedList(thing.used_by || [])),
          kind === 'model'
            ? section('Tests', null, thing.tests && thing.tests.length ? testList(thing.tests) : empty('No test.'))
            : null,
        ),
      ),
    ];
  };
}

function columnsTable(thing, kind, chosen) {
  const rows = thing.columns.map((column) => {
    const { values, rows: deciding } = reaches(`${thing.name}:${column.name}`);
    const links = values
      .slice(0, 5)
      .map((reference) =>
        h('a', { class: 'ref', href: address('feature', reference), title: reference }, soft(split(reference)[1])),
      );
    return [
      [
        h(
          'a',
          {
            class: 'ref',
            href: address(kind, thing.name, { column: column.name }),
            'aria-current': column.name === chosen ? 'true' : null,
          },
          soft(column.name),
        ),
        column.description ? h('span', { class: 'what' }, column.description) : null,
      ],
      column.type || DASH,
      values.length
        ? [
            list(links),
            values.length > 5 ? h('span', { class: 'faint' }, ` and ${number(values.length - 5)} more`) : null,
          ]
        : h('span', { class: 'faint none' }, DASH),
      deciding.length ? count(deciding.length, 'feature') : h('span', { class: 'faint none' }, DASH),
    ];
  });
  return section(
    'Columns, and what would change with them',
    null,
    table(
      'Columns',
      [
        ['Column', ''],
        ['Type', 'ref muted inline'],
        ['Its values are in', ''],
        ['It decides rows of', ''],
      ],
      rows,
      'list columns',
    ),
  );
}

function columnSection(name, column, columns) {
  const start = `${name}:${column}`;
  if (!columns.some((one) => one.name === column))
    return section('Lineage', null, empty(`There is no column \u201c${column}\u201d.`));
  const down = walkDown(start),
    up = walkUp(start);
  const { values, rows } = reaches(start);
  const { boxes, edges } = folded(
    boxesOf([...new Set([...up.columns, ...down.columns])], start),
    [...up.edges, ...down.edges],
    start,
  );
  const small = narrow();
  const link = (reference) => h('a', { class: 'ref', href: address('feature', reference) }, soft(reference));
  return section(
    ['Where ', h('span', { class: 'ref' }, soft(column)), ' goes'],
    small || boxes.length < 2 ? null : legend(false),
    boxes.length < 2
      ? null
      : small || boxes.length > 70
        ? null
        : framed(boxes, edges, `Lineage of ${start}: arrows walk, Enter opens`),
    down.cut ? h('p', { class: 'faint small more' }, `${count(down.cut, 'edge')} more are not drawn.`) : null,
    !values.length && !rows.length ? empty('No feature is made from it, and it decides the rows of none.') : null,
    values.length
      ? h(
          'p',
          { class: 'small more prose' },
          'Its values are in ',
          list(values.slice(0, 60).map(link)),
          values.length > 60 ? ` and ${number(values.length - 60)} more` : null,
          '.',
        )
      : null,
    rows.length
      ? h(
          'details',
          { class: 'more' },
          h('summary', null, `It decides rows of ${count(rows.length, 'feature')}`),
          h(
            'ul',
            { class: 'names' },
            rows.slice(0, 300).map((one) => h('li', null, link(one))),
            rows.length > 300 ? h('li', null, `and ${number(rows.length - 300)} more`) : null,
          ),
        )
      : null,
  );
}
