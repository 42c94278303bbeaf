// What a feature's values look like: a histogram or the commonest values, figures, drift and history.

function figures(statistics) {
  const rows = [
    ['rows', number(statistics.row_count)],
    [
      'NULL',
      statistics.null_count
        ? `${share(statistics.null_fraction)} (${number(statistics.null_count)})`
        : share(statistics.null_fraction),
    ],
    statistics.nan_count ? ['NaN', number(statistics.nan_count)] : null,
    statistics.infinite_count ? ['infinite', number(statistics.infinite_count)] : null,
    ['distinct', number(statistics.distinct_count)],
  ];
  const more =
    statistics.kind === 'list'
      ? [
          ['shortest', 'minimum'],
          ['longest', 'maximum'],
          ['mean norm', 'mean_norm'],
        ]
      : [
          ['min', 'minimum'],
          ['1%', 'p01'],
          ['5%', 'p05'],
          ['25%', 'p25'],
          ['median', 'p50'],
          ['75%', 'p75'],
          ['95%', 'p95'],
          ['99%', 'p99'],
          ['max', 'maximum'],
          ['mean', 'mean'],
          ['deviation', 'stddev'],
        ];
  for (const [name, key] of more) {
    const value = statistics[key];
    if (value !== null && value !== undefined)
      rows.push([name, statistics.kind === 'list' && /^\d+$/.test(value) ? number(Number(value)) : number(value)]);
  }
  return h(
    'dl',
    { class: 'figures' },
    rows.filter(Boolean).map(([name, value]) => [h('dt', null, name), h('dd', null, soft(value))]),
  );
}

function chartOf(statistics) {
  if (statistics.row_count === 0) return empty('The view has no row.');
  if (statistics.kind === 'list') {
    const same = statistics.minimum === statistics.maximum && statistics.minimum !== null;
    return h(
      'p',
      { class: 'muted small' },
      same ? `Each is a list of ${number(Number(statistics.minimum))}. ` : 'Lists of numbers. ',
      typeof statistics.mean_norm === 'number'
        ? `Their norm is ${number(statistics.mean_norm)} on average: 1 where they are normalized.`
        : null,
    );
  }
  const core = statistics.core && statistics.core.counts && statistics.core.counts.length ? statistics.core : null;
  if (core && core.from === core.to) {
    const beyond = (core.below || 0) + (core.above || 0);
    return h(
      'p',
      { class: 'muted small' },
      beyond
        ? `From 1% to 99% every value is ${number(core.from)}; ${number(beyond)} lie beyond.`
        : `Every value is ${number(core.from)}.`,
    );
  }
  if (core) return histogram(statistics);
  if (statistics.top_values && statistics.top_values.length) return commonest(statistics);
  if (statistics.null_count === statistics.row_count) return empty('Every value is NULL.');
  return h('p', { class: 'muted small' }, 'Values of this kind are counted, and not drawn.');
}

function driftPart(drift, period) {
  const title = (words) => h('h3', null, 'Drift ', h('span', null, words));
  if (!drift) return h('div', { class: 'sub' }, title('not measured: it needs rows in two periods'));
  const psi = drift.population_stability_index,
    [kind, word] = driftKind(psi, drift.verdict);
  const between =
    period && period.start
      ? `${period.start.slice(0, 10)} to ${(period.end || '').slice(0, 10)}, against as long before`
      : 'the newest 7 days against the 7 days before';
  const rest = [
    typeof drift.jensen_shannon_divergence === 'number'
      ? `Jensen-Shannon ${number(drift.jensen_shannon_divergence)}`
      : null,
    `NULL ${share(drift.null_fraction_before)} \u2192 ${share(drift.null_fraction_now)}`,
    `rows ${number(drift.rows_before)} \u2192 ${number(drift.rows_now)}`,
  ]
    .filter(Boolean)
    .join(' \u00b7 ');
  return h(
    'div',
    { class: 'sub' },
    title(between),
    typeof psi === 'number'
      ? gauge(
          'PSI',
          psi,
          [
            ['0.1 moved', 0.1],
            ['0.25 drifted', 0.25],
          ],
          state(kind, `${word}, ${psi.toFixed(3)}`),
          null,
          kind,
        )
      : h('p', { class: 'faint small' }, 'No index for values of this kind.'),
    h('p', { class: 'muted tiny' }, rest),
  );
}

function historyPart(view, one) {
  const history = one.history || [];
  if (!history.length) {
    return h(
      'div',
      { class: 'sub' },
      h('h3', null, 'History ', h('span', null, 'not kept for this view')),
      h(
        'details',
        null,
        h('summary', null, 'Keep one: a model of a few lines'),
        code(
          `{{ config(
    materialized='incremental', incremental_strategy='microbatch',
    event_time='period_start', batch_size='day', begin='2026-01-01'
) }}

{{ feature_store.feature_statistics(${sqlText(view.name)}) }}`,
          'sql',
          'models/monitoring/feature_statistics_history.sql',
        ),
      ),
    );
  }
  return h(
    'div',
    { class: 'sub' },
    h('h3', null, 'History ', h('span', null, `${count(history.length, 'period')}, to ${history.at(-1).period}`)),
    h(
      'div',
      { class: 'sparks' },
      line('rows', history, (row) => row.rows, number),
      line('NULL', history, (row) => row.null_fraction, share),
      line('distinct', history, (row) => row.distinct, number),
      line(
        'median, 5% to 95%',
        history,
        (row) => row.p50,
        number,
        (row) => [row.p05, row.p95],
      ),
      line('mean', history, (row) => (row.p50 === null || row.p50 === undefined ? row.mean : null), number),
    ),
  );
}

function valuesSection(view, one) {
  const { statistics } = one;
  if (!statistics) {
    if (one.on_demand)
      return section('Values', null, empty('Computed when it is asked for: nothing is stored that could be counted.'));
    const skipped = (part('findings').checks.find((check) => check.name === 'statistics') || {}).problem;
    const why = view.problem || skipped || 'No statistics were computed when this page was made';
    return section(
      'Values',
      null,
      empty(
        h('p', null, h('b', null, 'No statistics. '), said(why)),
        view.problem || skipped
          ? null
          : h(
              'p',
              null,
              'Build the view, then make the page again: ',
              h('code', null, 'dbt build'),
              ', ',
              h('code', null, 'feature-store catalog build'),
              '.',
            ),
      ),
    );
  }
  const drawn = statistics.kind !== 'list' && statistics.core && statistics.core.from !== statistics.core.to;
  return section(
    'Values',
    drawn ? 'box: 25% to 75%, mark: median, line: 5% to 95%; grey: beyond 1% and 99%' : null,
    h(
      'div',
      { class: 'panel' },
      h('div', { class: 'values' }, h('div', null, chartOf(statistics)), figures(statistics)),
      driftPart(one.drift, view.drift_period),
      historyPart(view, one),
    ),
  );
}

// Newest event, load and run against what the view allows. Lengths are as of the build.
function freshnessSection(view) {
  const fresh = view.freshness || {},
    online = view.online || {};
  const limits = [
    ['warn', view.warn_after_seconds],
    ['error', view.error_after_seconds],
    ['ttl', view.ttl_seconds],
  ]
    .filter(([, at]) => at)
    .map(([word, at]) => [`${word} ${duration(at)}`, at]);
  const named = limits.map(([word]) => word).join(', ') || 'none set';
  const kind = ['pass', 'warn', 'error'].includes(fresh.status) ? fresh.status : 'unknown';
  const bar = (name, at, ago, mark) =>
    gauge(name, age(at), limits, state(mark, `${duration(age(at))} ${ago}`), moment(at), mark);
  const body = [];
  if (fresh.reason) body.push(note(kind === 'pass' ? '' : kind, said(fresh.reason)));
  if (fresh.newest_event) body.push(bar('Newest event', fresh.newest_event, 'old', kind));
  if (fresh.newest_load) body.push(bar('Newest load', fresh.newest_load, 'ago', 'pass'));
  if (online.last_run) body.push(bar('Materialized', online.last_run, 'ago', online.error ? 'error' : 'pass'));
  if (!body.length)
    body.push(empty('Not known. ', said(view.problem || 'no row of the view was read when this page was made')));
  if (!limits.length)
    body.push(
      h(
        'p',
        { class: 'faint small' },
        'Nothing says how old is too old. Under meta.feature_view: ',
        h('code', null, 'ttl: 30 days'),
        ', ',
        h('code', null, 'freshness: {warn_after: 2 hours}'),
        '.',
      ),
    );
  return section('Freshness', `limits: ${named}`, h('div', { class: 'gauges' }, body));
}

function onlineSection(view, field) {
  const online = view.online || {},
    values = view.entities.map((name) => `<${name}>`);
  if (online.wanted === null || online.wanted === undefined) {
    return section(
      'Online',
      null,
      empty('Not known: Redis was not asked when this page was made. ', online.error ? said(online.error) : null),
    );
  }
  if (!online.wanted)
    return section('Online', null, empty('Not kept online: the view says ', h('code', null, 'online: false'), '.'));
  if (online.published === null || online.published === undefined) {
    return section(
      'Online',
      null,
      empty('Not known. ', said(online.reason || online.error || 'Redis did not answer when this page was made')),
    );
  }
  if (!online.published) {
    return section(
      'Online',
      null,
      note('error', said(online.error || online.reason || 'Redis has nothing of it'), ' A reader gets NOT_FOUND.'),
      code(`materialize ${shellWord(view.name)}`, 'shell', 'Send it'),
    );
  }
  const run = online.last_run
    ? `${moment(online.last_run)}${online.seconds ? `, ${duration(online.seconds)}` : ''}`
    : null;
  const fresh = view.freshness || {};
  return section(
    'Online',
    h('a', { href: '#/lookup?' + new URLSearchParams({ of: view.name }) }, 'Look an entity up'),
    pairs(
      ['In Redis', state('pass', 'yes')],
      ['Rows', number(online.rows)],
      fresh.expired_entities === null || fresh.expired_entities === undefined
        ? null
        : ['Past their ttl', number(fresh.expired_entities)],
      online.newest_event ? ['Newest event there', moment(online.newest_event)] : null,
      run ? ['Last run', run] : null,
      ['Key', h('span', { class: 'ref' }, soft(keyOf(view, values)))],
      field ? ['Field', h('span', { class: 'ref' }, soft(field))] : null,
    ),
  );
}
