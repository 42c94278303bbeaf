// The search box of the top bar: a list of the best hits as one types, walked with the arrows.

const searchInput = byId('q'),
  hitList = byId('hits');
let shownHits = [],
  currentHit = 0;

function drawHits() {
  const query = searchInput.value.trim();
  if (!query) {
    closeHits();
    return;
  }
  let result;
  try {
    result = search(query, 12);
  } catch (error) {
    if (!(error instanceof NotYet)) throw error;
    setTimeout(drawHits, 100);
    return;
  }
  const all = searchable();
  shownHits = result.best.map((i) => ({ href: hitAddress(i), i }));
  if (result.count) shownHits.push({ href: listOf(query, result), all: result.count });
  currentHit = Math.min(currentHit, Math.max(0, shownHits.length - 1));
  const option = (hit, n, kind, body) =>
    h(
      'div',
      {
        role: 'option',
        id: `hit-${n}`,
        'aria-selected': String(n === currentHit),
        pointermove: () => {
          if (currentHit !== n) {
            currentHit = n;
            markHit();
          }
        },
        mousedown: (event) => {
          event.preventDefault();
          openHit(n);
        },
      },
      h('span', { class: 'k' }, kind),
      body,
    );
  refill(
    hitList,
    shownHits.length
      ? shownHits.map((hit, n) =>
          hit.all
            ? option(hit, n, '', h('span', null, `All ${number(hit.all)} in the list`))
            : option(
                hit,
                n,
                KINDS[all.kinds[hit.i]],
                h(
                  'span',
                  { class: 'hit' },
                  h('span', { class: 'ref' }, marked(all.names[hit.i], query, true)),
                  h('span', { class: 'd' }, marked(hitDescription(hit.i), query)),
                ),
              ),
        )
      : h(
          'div',
          { class: 'foot', role: 'option', 'aria-disabled': 'true', 'aria-selected': 'false', id: 'hit-none' },
          `Nothing has every word of \u201c${query}\u201d.`,
        ),
  );
  hitList.append(
    h(
      'div',
      { class: 'foot hints', 'aria-hidden': 'true' },
      ['\u2191 \u2193 choose', 'Enter opens', 'Esc closes', 'kind:view  owner:growth  type:double  tag:  entity:'].map(
        (text) => h('span', null, text),
      ),
    ),
  );
  hitList.hidden = false;
  searchInput.setAttribute('aria-expanded', 'true');
  if (shownHits.length) searchInput.setAttribute('aria-activedescendant', `hit-${currentHit}`);
  else searchInput.removeAttribute('aria-activedescendant');
  say(result.count ? `${number(result.count)} found` : 'Nothing found');
}

// The list that holds a search's hits: the kind of which there are most.
function listOf(query, { hits }) {
  const all = searchable(),
    tally = [0, 0, 0, 0, 0, 0];
  for (const i of hits) tally[all.kinds[i]]++;
  const tab = ['views', 'features', 'entities', 'services', 'sources', 'models'][tally.indexOf(Math.max(...tally))];
  return '#/?' + new URLSearchParams(tab === 'views' ? { q: query } : { tab, q: query });
}

function markHit() {
  for (const option of hitList.querySelectorAll('[role="option"]')) {
    const on = option.id === `hit-${currentHit}`;
    option.setAttribute('aria-selected', String(on));
    if (on) option.scrollIntoView({ block: 'nearest' });
  }
  searchInput.setAttribute('aria-activedescendant', `hit-${currentHit}`);
}
function closeHits() {
  hitList.hidden = true;
  hitList.replaceChildren();
  searchInput.setAttribute('aria-expanded', 'false');
  searchInput.removeAttribute('aria-activedescendant');
}
function openHit(n) {
  const hit = shownHits[n];
  if (!hit || hitList.hidden) return;
  closeHits();
  searchInput.value = '';
  searchInput.blur();
  location.hash = hit.href;
}

searchInput.addEventListener('input', () => {
  currentHit = 0;
  drawHits();
});
searchInput.addEventListener('focus', () => {
  if (searchInput.value) drawHits();
});
searchInput.addEventListener('blur', () => closeHits());
searchInput.addEventListener('keydown', (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step && !hitList.hidden) {
    event.preventDefault();
    if (shownHits.length) {
      currentHit = (currentHit + step + shownHits.length) % shownHits.length;
      markHit();
    }
  } else if (event.key === 'Enter') {
    event.preventDefault();
    openHit(currentHit);
  } else if (event.key === 'Escape') {
    event.preventDefault();
    if (searchInput.value) {
      searchInput.value = '';
      closeHits();
    } else searchInput.blur();
  }
});
