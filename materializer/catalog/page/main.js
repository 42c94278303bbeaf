// The frame: which screen an address shows, the top bar, keys, light and dark.

const SCREENS = {
  '': home,
  feature: featureScreen,
  view: viewScreen,
  service: serviceScreen,
  entity: entityScreen,
  source: relationScreen('source'),
  model: relationScreen('model'),
  findings: findingsScreen,
  lookup: lookupScreen,
  selection: selectionScreen,
};
const scrolls = new Map();
let shownAddress = null;

function where() {
  const raw = location.hash.replace(/^#\/?/, ''),
    at = raw.indexOf('?');
  const path = at < 0 ? raw : raw.slice(0, at),
    slash = path.indexOf('/');
  let name = slash < 0 ? '' : path.slice(slash + 1);
  try {
    name = decodeURIComponent(name);
  } catch {
    /* as it stands */
  }
  return {
    kind: slash < 0 ? path : path.slice(0, slash),
    name,
    query: new URLSearchParams(at < 0 ? '' : raw.slice(at + 1)),
  };
}

// Draws what the address says. `stay` keeps the place and the focus.
function draw(stay = false) {
  const { kind, name, query } = where(),
    main = byId('main');
  let screen;
  wholeLists = (stay ? scrollY : scrolls.get(location.hash) || 0) > 0;
  try {
    screen = Object.hasOwn(SCREENS, kind)
      ? SCREENS[kind](query, name)
      : missing('page', kind + (name ? '/' + name : ''));
  } catch (error) {
    if (error instanceof NotYet) refill(main, h('p', { class: 'faint', role: 'status' }, 'Reading the catalog\u2026'));
    else {
      refill(
        main,
        h('h1', { tabindex: -1 }, 'Not drawn'),
        note(
          'error',
          `This page could not be drawn: ${error.message}. The others can: `,
          h('a', { href: '#/' }, 'everything there is'),
          '.',
        ),
      );
      setTimeout(() => {
        throw error;
      });
    }
    return;
  } finally {
    wholeLists = false;
  }
  const [title, ...body] = screen;
  refill(main, body);
  document.title = `${title} \u2013 ${head.project.name} features`;
  drawNav();
  if (!stay) {
    scrollTo(0, scrolls.get(location.hash) || 0);
    const heading = main.querySelector('h1');
    if (heading && shownAddress !== null) heading.focus({ preventScroll: true });
  }
  shownAddress = location.hash;
}

// An address that says what is chosen on the same page: no step of the browser's history.
function replaceAddress(hash) {
  history.replaceState(history.state, '', hash);
  shownAddress = location.hash;
}

// Draws with `update`, and gives the focus back to what had it, by its id.
function keepFocus(update) {
  const active = document.activeElement,
    id = active && active.id;
  update();
  if (!id || document.activeElement === active) return;
  const again = byId(id);
  if (again) again.focus({ preventScroll: true });
}

function drawNav() {
  const { kind } = where(),
    { error = 0, warn = 0 } = head.counts.findings;
  const items = [
    ['', 'Catalog'],
    ['findings', 'Findings', error + warn, error ? 'bad' : 'warn'],
    ['lookup', 'Lookup'],
  ];
  if (picked.list.length) items.push(['selection', 'Selection', picked.list.length, '']);
  refill(
    byId('nav'),
    items.map(([to, text, n, look]) =>
      h(
        'a',
        { href: `#/${to}`, 'aria-current': to === kind ? 'page' : null },
        text,
        n ? [' ', h('span', { class: `count ${look}` }, number(n))] : null,
      ),
    ),
  );
}

function drawFrame() {
  // The document stands beside the page, by the page's own name; a server has it at /catalog.json.
  const file = location.pathname.split('/').pop(),
    beside = /\.html?$/.test(file) ? file.replace(/\.html?$/, '.json') : 'catalog.json';
  const { project } = head;
  refill(
    byId('brand'),
    s(
      'svg',
      { width: 18, height: 18, viewBox: '0 0 18 18', 'aria-hidden': 'true' },
      s('path', { class: 'mark', d: 'M2 4h6M2 9h9M2 14h5' }),
      s('circle', { cx: 14, cy: 9, r: 2.6 }),
    ),
    h('b', null, soft(project.name)),
    project.target ? h('span', null, project.target) : null,
  );
  const made = [
    'Made ',
    moment(project.built_at),
    ` from ${project.name}`,
    project.target ? ` (${project.target})` : '',
    project.revision ? ` at ${String(project.revision).slice(0, 12)}` : '',
  ].join('');
  refill(
    byId('foot'),
    h('span', null, made),
    h('span', null, [project.dbt ? `dbt ${project.dbt}` : null, project.warehouse].filter(Boolean).join(', ')),
    h('span', null, 'Ages are as of then'),
    h('a', { href: beside }, decodeURIComponent(beside)),
  );
}

// One-letter keys can be switched off, for those who speak to their computer.
let letters = kept.get('letters') !== 'off';
function drawKeys() {
  const keys = [
    [['/', 'Ctrl K'], 'search'],
    [['j', 'k'], 'next and previous row; Enter opens it'],
    [['[', ']'], 'previous and next feature of the view'],
    [['\u2190', '\u2192', '\u2191', '\u2193'], 'walk the lineage; Enter opens'],
    [['?'], 'this list'],
  ];
  refill(
    byId('keys'),
    h('h2', { id: 'keys-title' }, 'Keys'),
    h(
      'dl',
      null,
      keys.map(([list, text]) => [
        h(
          'dt',
          null,
          list.flatMap((key, index) => [index ? ' ' : '', h('kbd', null, key)]),
        ),
        h('dd', null, text),
      ]),
    ),
    h(
      'p',
      null,
      h(
        'label',
        { class: 'check' },
        h('input', {
          type: 'checkbox',
          id: 'letters',
          checked: letters,
          change: (event) => {
            letters = event.target.checked;
            kept.set('letters', letters ? 'on' : 'off');
          },
        }),
        'Keys of one letter',
      ),
    ),
    h(
      'p',
      { class: 'more' },
      h('button', { type: 'button', class: 'btn', click: () => byId('keys').close() }, 'Close'),
    ),
  );
}
const showKeys = () => {
  drawKeys();
  byId('keys').showModal();
};

function step(by) {
  const rows = [...byId('main').querySelectorAll('tr[data-row] td.name a')].filter(
    (a, index, all) => !index || a.closest('tr') !== all[index - 1].closest('tr'),
  );
  if (!rows.length) return;
  const here = document.activeElement && document.activeElement.closest('tr'),
    at = rows.findIndex((a) => a.closest('tr') === here);
  const next = rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? 0 : at + by))];
  next.focus();
  next.scrollIntoView({ block: 'nearest' });
}

addEventListener('keydown', (event) => {
  if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === 'k') {
    event.preventDefault();
    searchInput.focus();
    searchInput.select();
    return;
  }
  if (
    !letters ||
    event.ctrlKey ||
    event.metaKey ||
    event.altKey ||
    byId('keys').open ||
    /^(input|select|textarea)$/i.test(event.target.tagName)
  )
    return;
  const does = {
    '/': () => {
      searchInput.focus();
      searchInput.select();
    },
    '?': showKeys,
    j: () => step(1),
    k: () => step(-1),
    '[': () => byId('prev') && byId('prev').click(),
    ']': () => byId('next') && byId('next').click(),
  }[event.key];
  if (does) {
    event.preventDefault();
    does();
  }
});

// Without a choice the page is as the system is.
function drawTheme() {
  const dark = matchMedia('(prefers-color-scheme: dark)').matches,
    chosen = document.documentElement.dataset.theme;
  const next = (chosen ? chosen === 'dark' : dark) ? 'light' : 'dark';
  const button = byId('theme');
  button.setAttribute('aria-label', `Make it ${next}`);
  button.title = `Make it ${next}`;
  refill(
    button,
    icon(
      'M9 5.6a3.4 3.4 0 1 0 0 6.8 3.4 3.4 0 0 0 0-6.8z',
      'M9 1.5v1.6M9 14.9v1.6M1.5 9h1.6M14.9 9h1.6M3.7 3.7l1.1 1.1M13.2 13.2l1.1 1.1M3.7 14.3l1.1-1.1M13.2 4.8l1.1-1.1',
    ),
  );
  button.onclick = () => {
    document.documentElement.dataset.theme = next;
    kept.set('theme', next);
    drawTheme();
  };
}

document.documentElement.dataset.js = '';
if (['light', 'dark'].includes(kept.get('theme'))) document.documentElement.dataset.theme = kept.get('theme');
const help = byId('help');
help.setAttribute('aria-label', 'Keys');
help.title = 'Keys (?)';
refill(
  help,
  icon(
    'M9 2a7 7 0 1 0 0 14A7 7 0 0 0 9 2z',
    'M6.9 7.1c.1-1.2 1-1.9 2.1-1.9s2.1.7 2.1 1.8c0 1.5-2.1 1.6-2.1 3.1',
    'M9 12.6v.2',
  ),
);
help.addEventListener('click', showKeys);
document
  .querySelector('.search')
  .prepend(icon('M7.8 2.5a5.3 5.3 0 1 0 0 10.6 5.3 5.3 0 0 0 0-10.6z', 'm11.7 11.7 3.8 3.8'));
drawTheme();
drawFrame();
history.scrollRestoration = 'manual';
addEventListener(
  'scroll',
  () => {
    if (location.hash === shownAddress) scrolls.set(location.hash, scrollY);
  },
  { passive: true },
);
addEventListener('hashchange', () => draw());
// Printed, what is folded unfolds.
addEventListener('beforeprint', () =>
  document.querySelectorAll('main details').forEach((one) => {
    if (!one.open) {
      one.open = true;
      one.dataset.folded = '';
    }
  }),
);
addEventListener('afterprint', () =>
  document.querySelectorAll('main details[data-folded]').forEach((one) => {
    one.open = false;
    delete one.dataset.folded;
  }),
);
draw();
// What the first screen did not need is read when the browser has time, so that the first word of a search finds it ready.
addEventListener('DOMContentLoaded', () => {
  if (byId('main').querySelector('[role="status"]')) draw();
  const idle = window.requestIdleCallback
    ? (work) => requestIdleCallback(work, { timeout: 500 })
    : (work) => setTimeout(work, 50);
  idle(() => {
    features();
    idle(() => {
      searchable();
      idle(practise);
    });
  });
});
