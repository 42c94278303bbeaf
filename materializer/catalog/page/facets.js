// Facets: how many things of a list have each value of each facet, given what is chosen in the others.

// A facet is {key, label, values, single} or {key, label, values, many}: the number of each thing's value in `values`, or
// the numbers of its values. `pick(i)` gives a text or texts.
function facet(key, label, length, pick) {
  const numbers = new Map(),
    values = [];
  const idOf = (text) => {
    let id = numbers.get(text);
    if (id === undefined) {
      id = values.length;
      numbers.set(text, id);
      values.push(text);
    }
    return id;
  };
  const first = length ? pick(0) : '';
  if (Array.isArray(first)) {
    const many = new Array(length);
    const same = new Map(); // lists that are one and the same are kept once
    for (let i = 0; i < length; i++) {
      const texts = pick(i);
      let ids = same.get(texts);
      if (!ids) {
        ids = texts.map(idOf);
        same.set(texts, ids);
      }
      many[i] = ids;
    }
    return { key, label, values, many };
  }
  const single = new Int32Array(length);
  for (let i = 0; i < length; i++) single[i] = idOf(pick(i));
  return { key, label, values, single };
}

// What of `length` things (or of the numbers `among`) has what is chosen, and the counts: {rows, counts by key}.
function chosenOf(facets, chosen, length, among) {
  const wanted = facets.map((one) => {
    const texts = chosen[one.key];
    if (!texts || !texts.length) return null;
    const flags = new Uint8Array(one.values.length);
    texts.forEach((text) => {
      const id = one.values.indexOf(text);
      if (id >= 0) flags[id] = 1;
    });
    return flags;
  });
  const counts = facets.map((one) => new Int32Array(one.values.length));
  const rows = [],
    size = among ? among.length : length,
    width = facets.length;
  for (let n = 0; n < size; n++) {
    const i = among ? among[n] : n;
    let missed = -1,
      misses = 0;
    for (let f = 0; f < width && misses < 2; f++) {
      const flags = wanted[f];
      if (!flags) continue;
      const one = facets[f];
      let has = 0;
      if (one.single) has = flags[one.single[i]];
      else
        for (const id of one.many[i])
          if (flags[id]) {
            has = 1;
            break;
          }
      if (!has) {
        missed = f;
        misses++;
      }
    }
    if (misses > 1) continue;
    if (!misses) rows.push(i);
    for (let f = misses ? missed : 0; f < (misses ? missed + 1 : width); f++) {
      const one = facets[f],
        tally = counts[f];
      if (one.single) tally[one.single[i]]++;
      else for (const id of one.many[i]) tally[id]++;
    }
  }
  return { rows, counts: Object.fromEntries(facets.map((one, f) => [one.key, counts[f]])) };
}

// The facets as boxes to check. `change(key, value, on)` is called; more than `FEW` values stay folded.
const FEW = 6,
  unfolded = new Set();
function facetBoxes(facets, counts, chosen, change, again) {
  return facets.map((one) => {
    const tally = counts[one.key],
      picked = chosen[one.key] || [];
    const order = one.values.map((_, id) => id).filter((id) => tally[id] || picked.includes(one.values[id]));
    if (!order.length) return null;
    order.sort(
      (a, b) =>
        picked.includes(one.values[b]) - picked.includes(one.values[a]) ||
        tally[b] - tally[a] ||
        (one.values[a] < one.values[b] ? -1 : 1),
    );
    const open = unfolded.has(one.key),
      shown = open ? order.slice(0, 200) : order.slice(0, Math.max(FEW, picked.length));
    const rest = order.length - shown.length;
    return h(
      'fieldset',
      null,
      h('legend', null, one.label),
      shown.map((id) => {
        const value = one.values[id];
        return h(
          'label',
          { title: value },
          h('input', {
            type: 'checkbox',
            id: `facet-${one.key}-${value}`,
            checked: picked.includes(value),
            change: (event) => change(one.key, value, event.target.checked),
          }),
          h('span', null, value),
          h('i', null, number(tally[id])),
        );
      }),
      rest > 0 || (open && order.length > FEW)
        ? h(
            'button',
            {
              type: 'button',
              class: 'text-btn',
              id: `more-${one.key}`,
              click: () => {
                open ? unfolded.delete(one.key) : unfolded.add(one.key);
                again();
              },
            },
            open ? 'Fewer' : `${number(rest)} more`,
          )
        : null,
    );
  });
}

// On a narrow page the facets fold behind a button.
let facetsOpen = false;
function facetFrame(body) {
  return h(
    'details',
    { class: 'facets', open: !narrow() || facetsOpen },
    h(
      'summary',
      {
        class: 'btn',
        click: () => {
          facetsOpen = !facetsOpen;
        },
      },
      'Filter',
    ),
    body,
  );
}

const chosenFrom = (query, facets) => Object.fromEntries(facets.map((one) => [one.key, query.getAll(one.key)]));

// What is chosen, as chips that take it back.
function activeChips(query, facets, what, set) {
  const chips = [];
  const drop = (key, value) => {
    const left = query.getAll(key).filter((one) => one !== value);
    query.delete(key);
    left.forEach((one) => query.append(key, one));
    set();
  };
  const add = (key, value, text) =>
    chips.push(
      h(
        'button',
        { type: 'button', class: 'chip on', 'aria-label': `Without ${text}`, click: () => drop(key, value) },
        text,
        ' \u00d7',
      ),
    );
  if (query.get('q')) add('q', query.get('q'), `\u201c${query.get('q')}\u201d`);
  facets.forEach((one) =>
    query.getAll(one.key).forEach((value) => add(one.key, value, `${one.label.toLowerCase()}: ${value}`)),
  );
  if (!chips.length) return null;
  return h(
    'div',
    { class: 'active' },
    h('span', null, what),
    chips,
    h(
      'button',
      {
        type: 'button',
        class: 'text-btn',
        click: () => {
          ['q', ...facets.map((one) => one.key)].forEach((key) => query.delete(key));
          set();
        },
      },
      'Clear all',
    ),
  );
}
