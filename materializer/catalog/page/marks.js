// States, links, facts and the other small things that every screen is made of. A state is a shape and a word, never a
// colour alone.

const SHAPES = {
  pass: () => s('circle', { cx: 5, cy: 5, r: 4 }),
  warn: () => s('path', { d: 'M5 .8 9.6 9H.4z' }),
  error: () => s('path', { d: 'M1 1h8v8H1z' }),
  unknown: () => s('circle', { cx: 5, cy: 5, r: 3.5, class: 'open' }),
  off: () => s('path', { d: 'M1 5h8', class: 'open' }),
};
function state(kind, text) {
  const shape = s('svg', { width: 10, height: 10, viewBox: '0 0 10 10', 'aria-hidden': 'true' }, SHAPES[kind]());
  return h('span', { class: `st ${kind}` }, shape, h('b', null, text));
}

function link(kind, name, text) {
  return h('a', { class: 'ref', href: address(kind, name) }, soft(text || name));
}
function relationLink(name) {
  const kind = kindOf(name);
  return kind ? link(kind, name) : h('span', { class: 'ref muted' }, soft(name));
}
function columnLink(reference, text) {
  const href = columnAddress(reference);
  return href
    ? h('a', { class: 'ref', href }, soft(text || reference))
    : h('span', { class: 'ref muted' }, soft(text || reference));
}
const list = (things) => things.flatMap((thing, index) => (index ? [', ', thing] : [thing]));

function freshness(status, newest, problem) {
  if (problem && !newest) return state('error', 'not built');
  const old = newest ? `${duration(age(newest))} old` : 'no rows';
  return state(
    status === 'pass' || status === 'warn' || status === 'error' ? status : 'unknown',
    status ? old : 'not known',
  );
}
function onlineState(online) {
  if (!online || online.wanted === null || online.wanted === undefined) return state('unknown', 'not known');
  if (!online.wanted) return state('off', 'not kept online');
  if (online.published === null || online.published === undefined) return state('unknown', 'not known');
  if (!online.published) return state('error', 'missing');
  return state('pass', online.rows === null || online.rows === undefined ? 'yes' : count(online.rows, 'row'));
}

// The usual limits of the population stability index.
const VERDICTS = { stable: 'pass', moved: 'warn', drifted: 'error' };
function driftKind(psi, verdict) {
  if (verdict) return [VERDICTS[verdict] || 'off', verdict];
  if (psi === null || psi === undefined) return ['off', DASH];
  return psi < 0.1 ? ['pass', 'stable'] : psi < 0.25 ? ['warn', 'moved'] : ['error', 'drifted'];
}
function driftCell(psi, verdict) {
  const [kind, word] = driftKind(psi, verdict);
  return kind === 'pass' || kind === 'off'
    ? h('span', { class: 'faint' }, kind === 'off' ? DASH : word)
    : state(kind, word);
}

function chip(text, href, more) {
  return href ? h('a', { class: `chip ${more || ''}`, href }, text) : h('span', { class: `chip ${more || ''}` }, text);
}
const tagChips = (tags) => tags.map((tag) => chip(tag, `#/?${new URLSearchParams({ tag })}`));

// One row of answers: a name, the answer, and a word more.
function facts(...answers) {
  return h(
    'dl',
    { class: `facts n${answers.length}` },
    answers.map(([name, answer, more]) =>
      h('div', null, h('dt', null, name), h('dd', null, answer), more ? h('dd', null, more) : null),
    ),
  );
}
function ownerFact(owner) {
  const name = owner
    ? h('a', { href: `#/?${new URLSearchParams({ owner: ownerKey(owner) })}` }, ownerName(owner))
    : h('span', { class: 'faint' }, 'nobody');
  return ['Owner', name, owner && owner.email ? soft(owner.email) : owner ? null : 'no group of the model\u2019s'];
}

const crumbs = (...steps) =>
  h(
    'nav',
    { class: 'crumbs', 'aria-label': 'Where this is' },
    steps.flatMap((step, index) =>
      index ? [h('span', { 'aria-hidden': 'true' }, '/'), h('span', null, step)] : [h('span', null, step)],
    ),
  );

function heading(title, { chips, actions, lead, none, plain } = {}) {
  return [
    h(
      'div',
      { class: 'head' },
      h('h1', { tabindex: -1, class: plain ? null : 'ref' }, plain ? title : soft(title)),
      chips,
      h('span', { class: 'grow' }),
      actions,
    ),
    lead ? h('p', { class: 'lead' }, coded(lead)) : none ? h('p', { class: 'lead none' }, none) : null,
  ];
}
function section(title, right, ...body) {
  return h(
    'section',
    null,
    h('header', null, h('h2', null, title), right ? h('div', { class: 'right' }, right) : null),
    body,
  );
}
const empty = (...body) => h('div', { class: 'empty' }, body);
const note = (kind, ...body) => h('p', { class: `note ${kind}` }, body);

function pairs(...rows) {
  return h(
    'dl',
    { class: 'kv' },
    rows.filter(Boolean).map(([name, value]) => [h('dt', null, name), h('dd', null, value)]),
  );
}

// A table of rows; a column is [title, class of its cells]. On a phone each row becomes a block.
function table(caption, columns, rows, more) {
  return h(
    'table',
    { class: `tbl stack ${more || ''}` },
    h('caption', { class: 'sr' }, caption),
    h(
      'thead',
      null,
      h(
        'tr',
        null,
        columns.map(([title, kind]) => h('th', { scope: 'col', class: kind || null }, title)),
      ),
    ),
    h(
      'tbody',
      null,
      rows.map((cells) =>
        h(
          'tr',
          { 'data-row': '' },
          cells.map((cell, index) =>
            h(
              'td',
              { class: index ? columns[index][1] || null : 'name', 'data-label': index ? columns[index][0] : null },
              cell,
            ),
          ),
        ),
      ),
    ),
  );
}

// A sentence of the document as it is read: what stands in backticks is code; it begins large and ends with one full stop.
const coded = (text) =>
  String(text)
    .split('`')
    .map((piece, index) => (index % 2 ? h('code', null, soft(piece)) : piece));
const said = (text) => coded(sentence(String(text)).replace(/\.?$/, '.'));

// Who uses a thing, and which tests it has. `sets` are training sets that were recorded: files, which have no page.
function usedList(users, sets = []) {
  if (!users.length && !sets.length)
    return empty('Nothing that is known uses it: no exposure, no model and no recorded training set.');
  const shown = sets.slice(0, 12),
    rest = sets.length - shown.length;
  return [
    h(
      'ul',
      { class: 'rows' },
      users.map((user) =>
        h('li', null, h('span', null, relationLink(user.name)), h('span', { class: 'k' }, user.kind)),
      ),
      shown.map((set) =>
        h(
          'li',
          null,
          h(
            'span',
            null,
            h('span', { class: 'ref' }, soft(set.name)),
            h(
              'span',
              { class: 'line faint' },
              [
                count(set.rows, 'row'),
                set.made_at.slice(0, 10),
                set.revision && `${set.revision.slice(0, 7)}${set.dirty ? ', uncommitted' : ''}`,
              ]
                .filter(Boolean)
                .join(' \u00b7 '),
            ),
          ),
          h('span', { class: 'k' }, 'recorded training set'),
        ),
      ),
    ),
    rest > 0 ? h('p', { class: 'faint small more' }, `${count(rest, 'more training set')}, all older.`) : null,
  ];
}
const TESTED = {
  pass: ['pass', 'passed'],
  success: ['pass', 'passed'],
  warn: ['warn', 'warned'],
  fail: ['error', 'failed'],
  error: ['error', 'error'],
};
function testList(tests) {
  return h(
    'ul',
    { class: 'rows' },
    tests.map((test) => {
      const [kind, word] = TESTED[test.status] || ['unknown', test.status || 'not run'];
      const failures = kind === 'error' && test.failures ? `: ${count(test.failures, 'row')}` : '';
      return h(
        'li',
        null,
        h(
          'span',
          null,
          h('span', { class: 'ref' }, soft(test.name)),
          test.column ? [' ', h('span', { class: 'faint' }, soft(test.column))] : null,
        ),
        h('span', { class: 'nowrap' }, state(kind, word + failures)),
      );
    }),
  );
}

function findingNotes(found, here) {
  if (!found.length) return null;
  const view = split(here)[0],
    rest = found.length - 4;
  return h(
    'div',
    { class: 'notes' },
    found
      .slice(0, rest > 1 ? 4 : 5)
      .map((finding) =>
        note(
          finding.severity === 'error' ? 'error' : 'warn',
          h(
            'b',
            null,
            sentence(finding.kind),
            finding.ref === here ? null : [' of ', columnLink(finding.ref, split(finding.ref)[1])],
            '. ',
          ),
          said(finding.what),
          ' ',
          finding.other && anyAddress(finding.other)
            ? [h('a', { href: anyAddress(finding.other) }, 'The other one'), '. ']
            : null,
          h('a', { href: '#/findings?kind=' + encodeURIComponent(finding.kind) }, 'What to do'),
        ),
      ),
    rest > 1
      ? note('warn', h('a', { href: '#/findings?' + new URLSearchParams({ view }) }, `${number(rest)} more findings`))
      : null,
  );
}
