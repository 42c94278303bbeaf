// A feature in one screen: what it means, where it comes from, how it is computed, its values, whether it is fresh and
// online, who uses it, and how to get it.

// The steps that compute a column, the outermost first.
function stepList(steps) {
  return h(
    'ol',
    { class: 'steps' },
    steps.map((step) => {
      const [name] = split(step.reference);
      return h(
        'li',
        null,
        h(
          'span',
          { class: 'lhs' },
          step.whole
            ? columnLink(step.reference, step.name)
            : h('span', { class: 'ref muted' }, soft((step.part ? step.part + '.' : '') + step.name)),
          h('span', { class: 'where' }, 'in ', soft(name)),
        ),
        h(
          'code',
          null,
          step.texts.flatMap((text, index) => [
            index ? h('span', { class: 'faint' }, '  or  ') : '',
            tinted(text, 'sql'),
          ]),
        ),
      );
    }),
  );
}
// A feature computed when it is asked for: of stored features, and of what the request brings.
function onDemand(one, steps) {
  const request = Object.entries(one.on_demand.request || {});
  return [
    h(
      'p',
      { class: 'small muted prose' },
      'Computed when it is asked for',
      request.length
        ? [
            ', from what the request brings: ',
            list(request.map(([name, type]) => [h('span', { class: 'ref' }, name), ` (${type})`])),
          ]
        : null,
      (one.on_demand.reads || []).length
        ? ['; it reads ', list(one.on_demand.reads.map((reference) => columnLink(reference)))]
        : null,
      '.',
    ),
    steps.length ? h('div', { class: 'more' }, stepList(steps)) : code(one.on_demand.expression, 'sql', 'Expression'),
  ];
}

function computed(reference, problem) {
  const steps = derivation(reference),
    [, column] = split(reference);
  const one = feature(reference);
  if (one && one.on_demand) return onDemand(one, steps);
  if (steps.length) return stepList(steps);
  const found = hop(reference);
  if (!found || found.problem)
    return empty(
      'Not resolved. ',
      said((found && found.problem) || problem || 'the SQL of the view could not be read when this page was made'),
    );
  const from = ends(walkUp(reference)).filter((one) => !one.endsWith(':*'));
  const origins = from.length ? from : found.values;
  if (!origins.length) return empty('A constant, or a value that no column goes into.');
  return h(
    'ol',
    { class: 'steps' },
    h(
      'li',
      null,
      h('span', { class: 'lhs ref' }, soft(column)),
      h(
        'span',
        null,
        h('span', { class: 'muted' }, 'taken over as it is from '),
        list(origins.map((one) => columnLink(one))),
      ),
    ),
  );
}

function versionsSection(view) {
  const versions = view.versions || [];
  if (!versions.length) {
    return section(
      'Versions',
      null,
      h(
        'p',
        { class: 'small muted' },
        'One version. What changed since a git revision: ',
        h('code', null, 'feature-store diff REVISION'),
        '.',
      ),
    );
  }
  return section(
    'Versions',
    null,
    h(
      'ul',
      { class: 'rows' },
      [...versions].reverse().map((one) => {
        const name =
          one.name ||
          [`${view.name}.v${one.version}`, `${view.name.replace(/\.v[^.]*$/, '')}.v${one.version}`].find((text) =>
            viewNumbers.has(text),
          );
        return h(
          'li',
          null,
          h(
            'span',
            null,
            name && name !== view.name ? link('view', name, `v${one.version}`) : h('b', null, `v${one.version}`),
            ' ',
            one.latest ? chip('latest') : one.state ? chip(one.state) : null,
            one.change ? [h('br'), h('span', { class: 'muted' }, one.change)] : null,
          ),
          one.at ? h('span', { class: 'k' }, one.at.slice(0, 10)) : null,
        );
      }),
    ),
  );
}

// Models, training sets and services that use a feature: of the view's users those that its values reach.
function usersOf(view, reference) {
  const services = servicesOf(reference).map((name) => ({ kind: 'service', name }));
  const relations = distinct(
    hopsDown(reference)
      .filter(([, kind]) => kind === 'values')
      .map(([to]) => split(to)[0]),
  ).filter((name) => name !== view.name);
  const kinds = new Map((view.used_by || []).map((user) => [user.name, user.kind]));
  return [...services, ...relations.map((name) => ({ kind: kinds.get(name) || kindOf(name) || 'model', name }))];
}

function sqlSection(view, name) {
  if (!view.sql) {
    return section(
      'SQL',
      view.file,
      empty(
        view.problem
          ? said(view.problem)
          : [
              'This page was made without SQL: ',
              h('code', null, 'feature-store catalog build'),
              ' without ',
              h('code', null, '--light'),
              ' has it.',
            ],
      ),
    );
  }
  const lines = name ? linesOf(view.sql, name) : null;
  const body = code(
    view.sql,
    'sql',
    [view.materialized, view.contract ? 'contract enforced' : null].filter(Boolean).join(', ') || view.file,
    { tall: true, lines },
  );
  if (lines && lines.size) {
    requestAnimationFrame(() => {
      const lit = body.querySelector('.hl'),
        pre = body.querySelector('pre');
      if (lit && pre.scrollHeight > pre.clientHeight) pre.scrollTop = lit.offsetTop - pre.clientHeight / 2;
    });
  }
  return section(
    name ? 'SQL of the view' : 'SQL',
    view.file ? h('span', { class: 'ref' }, soft(view.file)) : null,
    body,
    view.compiled && view.compiled !== view.sql
      ? lazyDetails('Compiled', () => code(view.compiled, 'sql', 'as the warehouse runs it', { tall: true }))
      : null,
  );
}
// A fold whose content is made when it is opened.
function lazyDetails(title, make) {
  let made = false;
  const details = h(
    'details',
    {
      class: 'more',
      toggle: () => {
        if (details.open && !made) {
          made = true;
          details.append(make());
        }
      },
    },
    h('summary', null, title),
  );
  return details;
}

function featureScreen(query, reference) {
  const [viewName, name] = split(reference),
    one = feature(reference);
  if (!one) return missing('feature', reference);
  const view = whole('view', viewName),
    statistics = one.statistics,
    drift = one.drift;
  const at = view.features.indexOf(one),
    before = view.features[at - 1],
    after = view.features[at + 1];
  const psi = drift ? drift.population_stability_index : null,
    [driftState, driftWord] = driftKind(psi, drift && drift.verdict);
  const found = foundFor().get(reference) || [],
    viewFound = (foundFor().get(viewName) || []).filter(
      (finding) => finding.ref === viewName && finding.severity === 'error' && finding.kind !== 'build',
    );
  const tests = (view.tests || []).filter((test) => test.column === name),
    viewTests = (view.tests || []).filter((test) => !test.column);
  const users = usersOf(view, reference),
    online = view.online || {};
  const step = (other, id, text) =>
    other
      ? h(
          'a',
          { id, class: 'ref', href: address('feature', `${viewName}:${other.name}`) },
          text[0],
          soft(other.name),
          text[1],
        )
      : null;
  return [
    reference,
    crumbs(
      list(view.entities.map((key) => h('a', { href: address('entity', key) }, key))),
      h('a', { href: address('view', viewName) }, soft(viewName)),
    ),
    heading(name, {
      chips: [
        chip(one.type || 'unknown type', null, 'type'),
        one.on_demand ? chip('on demand') : null,
        tagChips(view.tags || []),
      ],
      actions: [copyButton(reference, 'Copy name', 'btn'), pickButton(reference, true)],
      lead: one.description,
      none: 'No description. One under columns: in the model\u2019s yml is shown here, in dbt\u2019s docs and by feature-store show.',
    }),
    view.problem ? note('error', h('b', null, 'The view is not in order. '), said(view.problem)) : null,
    findingNotes([...found, ...viewFound], reference),
    facts(
      ownerFact(view.owner),
      [
        view.entities.length > 1 ? 'Keys' : 'Key',
        list(view.entities.map((key) => link('entity', key))),
        ['in ', soft(viewName)],
      ],
      [
        'Newest event',
        freshness((view.freshness || {}).status, (view.freshness || {}).newest_event, view.problem),
        view.ttl_seconds ? `ttl ${duration(view.ttl_seconds)}` : 'no ttl',
      ],
      one.on_demand
        ? ['In Redis', state('off', 'not stored'), 'computed when it is asked for']
        : [
            'In Redis',
            onlineState(view.online),
            online.last_run
              ? `materialized ${duration(age(online.last_run))} ago`
              : online.wanted && online.published === false
                ? 'never materialized'
                : null,
          ],
      [
        'NULL',
        statistics ? share(statistics.null_fraction) : DASH,
        statistics ? `of ${count(statistics.row_count, 'row')}` : one.on_demand ? 'not stored' : 'no statistics',
      ],
      [
        'Drift in 7 days',
        state(driftState, driftWord === DASH ? 'not measured' : driftWord),
        typeof psi === 'number' ? `PSI ${psi.toFixed(3)}` : null,
      ],
    ),
    lineageSection(reference),
    h(
      'div',
      { class: 'cols' },
      h(
        'div',
        null,
        section('How it is computed', null, computed(reference, view.problem)),
        valuesSection(view, one),
        freshnessSection(view),
        sqlSection(view, name),
      ),
      h(
        'aside',
        { 'aria-label': 'Using it' },
        h('div', { class: 'wide' }, section('How to get it', null, getIt([reference]))),
        section('Used by', null, usedList(users, trainingSetsOf(reference))),
        one.on_demand ? null : onlineSection(view, name),
        section(
          'Tests',
          null,
          tests.length || viewTests.length
            ? testList([...tests, ...viewTests])
            : empty(
                'No test. ',
                h('code', null, 'not_null'),
                ' and ',
                h('code', null, 'feature_store.feature_null_fraction'),
                ' are the first two to add.',
              ),
        ),
        versionsSection(view),
        before || after
          ? h(
              'nav',
              { class: 'steps-nav', 'aria-label': 'Features of the view' },
              step(before, 'prev', ['\u2190 ', '']),
              step(after, 'next', ['', ' \u2192']),
            )
          : null,
      ),
    ),
  ];
}
