// How to get features: the same request in Python, SQL, curl and redis-cli. Each is meant to be pasted and run.

// A value of an entity that is there, where the document has one; else one that shows its type.
function exampleKey(name) {
  const one = entity(name);
  if (one && one.example !== null && one.example !== undefined) return one.example;
  for (const key in head.samples) {
    const [viewName, ...values] = key.split(':');
    const view = head.views[viewNumbers.get(viewName)];
    const at = view ? view.entities.indexOf(name) : -1;
    if (at >= 0 && values[at] !== undefined) return numeric(name) ? Number(values[at]) : values[at];
  }
  return numeric(name) ? 1 : 'a';
}
const numeric = (name) => /int/i.test((entity(name) || {}).type || '');

// A key or a name as it stands in a Redis key.
const inKey = (value) =>
  String(value).replace(/[%:{}]/g, (mark) => '%' + mark.charCodeAt(0).toString(16).toUpperCase());
const keyOf = (view, values) =>
  ((view.online || {}).key || `${[head.project.namespace, view.name].map(inKey).join(':')}:`) + values.join(':');
const redisKey = (view, values) => keyOf(view, values.map(inKey));
const shellWord = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replace(/'/g, "'\\''")}'`);
const python = (value) =>
  typeof value === 'number'
    ? String(value)
    : typeof value === 'boolean'
      ? value
        ? 'True'
        : 'False'
      : JSON.stringify(value);
const sqlText = (text) => `'${text.replace(/'/g, "''")}'`;
const sqlName = (text) => (/^[a-z_][a-z0-9_]*$/i.test(text) ? text : `"${text.replace(/"/g, '""')}"`);

// `references` by view, in their order: [view's whole record, names of its features].
function byView(references) {
  const groups = new Map();
  for (const reference of references) {
    const [name, column] = split(reference);
    if (!viewNumbers.has(name)) continue;
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(column);
  }
  return [...groups].map(([name, columns]) => [whole('view', name), columns]);
}

// What the request must bring besides keys, for features that are computed when they are asked for: names with an example.
const EXAMPLES = [
  [/int|double|float|decimal|numeric|real/i, 1],
  [/bool/i, true],
  [/timestamp/i, '2026-01-01 00:00:00'],
  [/date/i, '2026-01-01'],
];
function requestFields(groups, serviceName) {
  const computed = [
    ...groups.flatMap(([view, columns]) => view.features.filter((one) => columns.includes(one.name))),
    ...((serviceName && service(serviceName).on_demand) || []),
  ];
  const fields = {};
  for (const one of computed) {
    for (const [name, type] of Object.entries((one.on_demand || {}).request || {}))
      fields[name] = (EXAMPLES.find(([pattern]) => pattern.test(type)) || [null, 'a'])[1];
  }
  return fields;
}
// Of a view's features those that are stored.
const stored = (view, columns) =>
  columns.filter((name) => !(view.features.find((one) => one.name === name) || {}).on_demand);

function pythonParts(references, service, row, brought) {
  const lines =
    references.length > 1
      ? `[\n${references.map((one) => `        ${python(one)},`).join('\n')}\n    ]`
      : `[${python(references[0])}]`;
  const asked = service ? python(service) : lines;
  const entities = Object.keys(row).filter((name) => !brought.includes(name));
  const values = `{${Object.entries(row)
    .map(([name, value]) => `${python(name)}: ${python(value)}`)
    .join(', ')}}`;
  return [
    code(
      `from materializer import FeatureStore

store = FeatureStore(project_dir=".")
store.get_historical_features(
    labels,  # ${[...entities, 'event_timestamp', ...brought].join(', ')}, ...
    ${asked},
).to_df()`,
      'python',
      'Training: as known at each label\u2019s moment',
    ),
    code(
      `from materializer import FeatureStore

store = FeatureStore(namespace=${python(head.project.namespace)})
store.get_online_features(
    ${asked},
    [${values}],
).to_dict()`,
      'python',
      'Serving: the newest, from Redis',
    ),
  ];
}

const refOf = (view) =>
  `{{ ref(${sqlText(view.model || view.name)}${view.versions && view.version !== null ? `, v=${/^\d+$/.test(view.version) ? view.version : sqlText(String(view.version))}` : ''}) }}`;
function sqlParts(references, groups, service) {
  const parts = [
    service
      ? code(
          `${groups.map(([view]) => `-- depends_on: ${refOf(view)}`).join('\n')}
{{ feature_store.point_in_time_join(ref('labels'), ${sqlText(service)}) }}`,
          'sql',
          'In a dbt model: labels with their features',
        )
      : code(
          `{{ feature_store.point_in_time_join(
    ref('labels'),
    [
${references.map((one) => `        ${sqlText(one)},`).join('\n')}
    ],
) }}`,
          'sql',
          'In a dbt model: labels with their features',
        ),
  ];
  if (groups.length === 1 && groups[0][0].relation && groups[0][0].timestamp) {
    const [view, all] = groups[0],
      columns = stored(view, all),
      keys = view.entities.map(sqlName),
      time = sqlName(view.timestamp);
    parts.push(
      code(
        `select ${[...keys, time, ...columns.map(sqlName)].join(', ')}
from (
    select *, row_number() over (
        partition by ${keys.join(', ')} order by ${time} desc
    ) as newest
    from ${view.relation}
    where ${time} <= current_timestamp
) as known
where newest = 1`,
        'sql',
        'In the warehouse: the newest row of each key',
      ),
    );
  }
  return parts;
}

function redisParts(groups, keys) {
  const kept = groups
    .filter(([view]) => view.online && view.online.wanted)
    .map(([view, columns]) => [view, stored(view, columns)])
    .filter(([, columns]) => columns.length);
  const computed = groups.some(([view, columns]) => stored(view, columns).length < columns.length);
  if (!kept.length && computed) return [empty('Computed when it is asked for: Redis does not hold it.')];
  if (!kept.length) return [empty('Not kept online: the view says ', h('code', null, 'online: false'), '.')];
  const commands = kept.map(([view, columns]) => {
    const key = redisKey(
      view,
      view.entities.map((name) => keys[name]),
    );
    const fields = [...columns, '_fs_event', '_fs_expires'].map(shellWord).join(' ');
    return `redis-cli -u "$FEATURE_STORE_REDIS_URL" HMGET \\\n  ${shellWord(key)} \\\n  ${fields}`;
  });
  return [code(commands.join('\n\n'), 'shell', 'From any client: a feature without a field is NULL')];
}

function curlPart(references, service, row) {
  const body = JSON.stringify(
    service ? { service, entities: [row] } : { features: references, entities: [row] },
  ).replace(/'/g, "'\\''");
  return code(
    `curl ${head.project.serve || 'http://127.0.0.1:6566'}/v1/features \\
  -H 'content-type: application/json' \\
  -d '${body}'`,
    'shell',
    'From feature-store serve',
  );
}

// Tabs, walked with the arrows; printed, all of them unfold.
let getTab = 0;
function getIt(references, service) {
  const groups = byView(references);
  const entities = distinct(groups.flatMap(([view]) => view.entities));
  const keys = Object.fromEntries(entities.map((name) => [name, exampleKey(name)]));
  const brought = requestFields(groups, service),
    row = { ...keys, ...brought };
  const tabs = [
    ['Python', pythonParts(references, service, row, Object.keys(brought))],
    ['SQL', sqlParts(references, groups, service)],
    ['curl', curlPart(references, service, row)],
    ['redis-cli', redisParts(groups, keys)],
  ];
  const buttons = tabs.map(([title], index) =>
    h(
      'button',
      {
        type: 'button',
        role: 'tab',
        id: `get-tab-${index}`,
        'aria-controls': `get-${index}`,
        click: () => choose(index),
        keydown: (event) => {
          const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
          if (step) {
            choose((index + step + tabs.length) % tabs.length);
            buttons[getTab].focus();
            event.preventDefault();
          }
        },
      },
      title,
    ),
  );
  const panels = tabs.map(([title, body], index) =>
    h(
      'div',
      { role: 'tabpanel', id: `get-${index}`, 'aria-labelledby': `get-tab-${index}` },
      h('h3', { class: 'onprint' }, title),
      body,
    ),
  );
  function choose(chosen) {
    getTab = chosen;
    buttons.forEach((button, index) => {
      button.setAttribute('aria-selected', String(index === chosen));
      button.tabIndex = index === chosen ? 0 : -1;
      panels[index].hidden = index !== chosen;
    });
  }
  choose(getTab);
  return h(
    'div',
    { class: 'panel get' },
    h('div', { class: 'tablist', role: 'tablist', 'aria-label': 'Language' }, buttons),
    panels,
  );
}
