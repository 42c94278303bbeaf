// Lookup: the values of one entity as they are online now. A file cannot reach Redis; a page from the server asks it.

let apiKey = '';

const STATUS = {
  PRESENT: ['pass', 'present'],
  NULL_VALUE: ['off', 'NULL'],
  NOT_FOUND: ['error', 'not found'],
  OUTSIDE_MAX_AGE: ['warn', 'older than ttl'],
};

function lookupScreen(query) {
  const kept = head.views.filter(
    (view) => onlineWord(view) === 'in Redis' || (served && onlineWord(view) !== 'not kept online'),
  );
  const options = [...head.services.map((one) => ['service', one.name]), ...kept.map((view) => ['view', view.name])];
  const wanted = query.get('of'),
    byEntity = query.get('entity') && kept.find((view) => view.entities.includes(query.get('entity')));
  const of = options.some(([, name]) => name === wanted)
    ? wanted
    : byEntity
      ? byEntity.name
      : options.length
        ? options[0][1]
        : null;
  const top = [
    h('h1', { tabindex: -1 }, 'Lookup'),
    h('p', { class: 'lead' }, 'The values of one entity as they are online now, with their status and age.'),
  ];
  if (!of) {
    return [
      'Lookup',
      top,
      h(
        'section',
        null,
        empty(
          'Nothing is online that could be looked up. ',
          h('code', null, 'materialize'),
          ' sends views to Redis; then make this page again.',
        ),
      ),
    ];
  }
  const isService = serviceNumbers.has(of) && options.some(([kind, name]) => kind === 'service' && name === of);
  const references = isService ? service(of).features.filter((one) => featureNumbers().has(one)) : featuresNamed(of);
  const views = distinct(references.map((one) => split(one)[0])),
    entities = distinct(views.flatMap((name) => head.views[viewNumbers.get(name)].entities));
  const answer = h('div', { 'aria-live': 'polite' });
  const brought = requestFields(byView(references), isService ? of : null),
    fields = [...entities, ...Object.keys(brought)];
  const inputs = fields.map((name) =>
    h('input', {
      id: `key-${name}`,
      autocomplete: 'off',
      spellcheck: 'false',
      value: query.get(`key.${name}`) ?? String(name in brought ? brought[name] : exampleKey(name)),
    }),
  );
  const secret = h('input', {
    id: 'api-key',
    type: 'password',
    autocomplete: 'off',
    value: apiKey,
    input: (event) => {
      apiKey = event.target.value;
    },
  });
  const secretField = h('label', { hidden: !apiKey }, 'API key', secret);
  const submit = async (event) => {
    event.preventDefault();
    const keys = Object.fromEntries(fields.map((name, index) => [name, inputs[index].value.trim()]));
    replaceAddress(
      '#/lookup?' + new URLSearchParams([['of', of], ...fields.map((name) => [`key.${name}`, keys[name]])]),
    );
    refill(answer, h('p', { class: 'faint more' }, 'Asking\u2026'));
    const number = (name) =>
      (numeric(name) && /^-?\d{1,15}$/.test(keys[name])) ||
      (typeof brought[name] === 'number' && keys[name] !== '' && Number.isFinite(Number(keys[name])));
    const row = Object.fromEntries(fields.map((name) => [name, number(name) ? Number(keys[name]) : keys[name]]));
    const result = await ask(isService ? { service: of } : { features: references }, row);
    if (result.status === 401) secretField.hidden = false;
    refill(
      answer,
      result.answer
        ? answered(result.answer, isService ? null : references)
        : note('error', h('b', null, result.error), result.hint ? ` ${result.hint}` : null),
    );
    if (result.status === 401) secret.focus();
  };
  const select = h(
    'select',
    {
      id: 'of',
      change: (event) => {
        location.hash = '#/lookup?' + new URLSearchParams({ of: event.target.value });
      },
    },
    options.map(([kind, name]) => h('option', { value: name, selected: name === of }, `${kind}: ${name}`)),
  );
  const form = h(
    'form',
    { submit },
    h(
      'fieldset',
      { class: 'form', disabled: !served },
      h('legend', { class: 'sr' }, 'Look an entity up'),
      h(
        'div',
        { class: 'two' },
        h('label', null, 'What', select),
        fields.map((name, index) => h('label', null, name, inputs[index])),
        secretField,
      ),
      h('div', null, h('button', { class: 'btn primary', type: 'submit' }, 'Look up')),
    ),
  );
  return ['Lookup', top, served ? null : fromDisk(references, views), h('section', null, form), answer];
}

const featuresNamed = (view) => {
  const at = viewNumbers.get(view),
    first = firstFeature()[at];
  return Array.from({ length: head.views[at].features }, (_, i) => `${view}:${features().name[first + i]}`);
};

function fromDisk(references, views) {
  const view = whole('view', views[0]);
  return h(
    'section',
    null,
    empty(
      h(
        'p',
        null,
        h('b', null, 'This page was opened from a file, and a file cannot reach Redis. '),
        'Served, the same page looks values up:',
      ),
      code('feature-store serve', 'shell', `then open ${head.project.serve || 'http://127.0.0.1:6566'}/#/lookup`),
      view
        ? [
            h('p', null, 'Or without it, by the Redis key:'),
            code(
              `redis-cli -u "$FEATURE_STORE_REDIS_URL" HGETALL ${shellWord(redisKey(view, view.entities.map(exampleKey)))}`,
              'shell',
              view.name,
            ),
          ]
        : null,
    ),
  );
}

// One question to the server that this page came from: {answer} or {error, hint, status}.
async function ask(what, row) {
  const headers = { 'content-type': 'application/json' };
  if (apiKey) headers.authorization = `Bearer ${apiKey}`;
  const body = JSON.stringify({
    ...what,
    entities: [row],
    statuses: true,
    ages: true,
    full_feature_names: true,
    integers_as_strings: true,
  });
  try {
    const response = await fetch('v1/features', { method: 'POST', headers, body });
    const answer = await response.json().catch(() => ({}));
    if (response.ok) return { answer, status: response.status };
    const { message, hint } = answer.error || {};
    return {
      error:
        response.status === 401
          ? apiKey
            ? 'The server does not know this API key.'
            : 'The server asks for an API key.'
          : message || `The server answered ${response.status}.`,
      hint: response.status === 401 ? '' : hint,
      status: response.status,
    };
  } catch {
    return { error: 'The server does not answer.', hint: 'Is feature-store serve still running?', status: 0 };
  }
}

function answered({ names, rows, statuses, event_timestamps: events, ages }, references) {
  const values = rows[0],
    present = statuses[0].filter((status) => status === 'PRESENT').length;
  const body = names.map((name, index) => {
    const reference = references ? references[index] : name.includes('__') ? name.replace('__', ':') : name;
    const [kind, word] = STATUS[statuses[0][index]] || ['unknown', statuses[0][index]];
    const value = values[index],
      text = value === null ? null : typeof value === 'object' ? JSON.stringify(value) : String(value);
    return [
      columnLink(reference, split(reference)[1] || reference),
      text === null
        ? h('span', { class: 'faint' }, DASH)
        : h(
            'code',
            { class: 'value', title: text.length > 200 ? text.slice(0, 2000) : null },
            text.length > 200 ? `${text.slice(0, 200)}\u2026` : text,
          ),
      state(kind, word),
      events && events[0][index] ? moment(events[0][index]) : DASH,
      ages && ages[0][index] !== null ? duration(ages[0][index]) : DASH,
    ];
  });
  return section(
    'Answer',
    `${number(present)} of ${number(names.length)} present`,
    table(
      'Values',
      [
        ['Feature', ''],
        ['Value', ''],
        ['Status', 'inline'],
        ['Event time', 'muted inline'],
        ['Age', 'muted inline'],
      ],
      body,
      'list answer',
    ),
  );
}
