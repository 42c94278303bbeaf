// Facets: how many things of a list have each value of each facet, given what is chosen in the others.

// A facet is {key, label, values, sets, of}: things share few different sets of values, so each set is kept once as
// numbers in `values`, and `of` holds the set's number of each thing. `pick(i)` gives a thing's text or texts.
function facet(key, label, length, pick) {
  const values = [],
    sets = [],
    numbers = new Map(),
    known = new Map(), // by the text or the list itself
    alike = new Map(); // by what a list holds
  const numberOf = (text) => {
    if (!numbers.has(text)) numbers.set(text, values.push(text) - 1);
    return numbers.get(text);
  };
  const setOf = (picked) => {
    const ids = (Array.isArray(picked) ? picked : [picked]).map(numberOf),
      content = ids.join();
    if (!alike.has(content)) alike.set(content, sets.push(ids) - 1);
    return alike.get(content);
  };
  const of = new Int32Array(length);
  for (let i = 0; i < length; i++) {
    const picked = pick(i);
    let set = known.get(picked);
    if (set === undefined) {
      set = setOf(picked);
      known.set(picked, set);
    }
    of[i] = set;
  }
  return { key, label, values, sets, of };
}

// Things that have the same set in every facet, as one group: {of: the group of each thing, groups: the set in each facet,
// sizes}. There are few, so what a click counts is them.
const groupings = new WeakMap();
function groupsOf(facets, length) {
  if (groupings.has(facets)) return groupings.get(facets);
  const of = new Int32Array(length);
  let groups = [[]];
  for (const one of facets) {
    const width = one.sets.length,
      next = [],
      numbers = new Map();
    for (let i = 0; i < length; i++) {
      const key = of[i] * width + one.of[i];
      let number = numbers.get(key);
      if (number === undefined) {
        number = next.push([...groups[of[i]], one.of[i]]) - 1;
        numbers.set(key, number);
      }
      of[i] = number;
    }
    groups = next;
  }
  const found = { of, groups, sizes: sizesOf(of, groups.length) };
  groupings.set(facets, found);
  return found;
}
function sizesOf(of, count, among) {
  const sizes = new Int32Array(count);
  if (among) for (const i of among) sizes[of[i]]++;
  else for (let i = 0; i < of.length; i++) sizes[of[i]]++;
  return sizes;
}

// What of `length` things (or of the numbers `among`) has what is chosen, and the counts: {rows, counts by key}.
function chosenOf(facets, chosen, length, among) {
  const { of, groups, sizes: all } = groupsOf(facets, length),
    sizes = among ? sizesOf(of, groups.length, among) : all;
  // Of each facet in which something is chosen, which sets have it.
  const fits = facets.map((one) => {
    const texts = chosen[one.key] || [];
    return texts.length ? one.sets.map((ids) => ids.some((id) => texts.includes(one.values[id]))) : null;
  });
  // A group counts for every facet where it has all that is chosen, and for one facet where it lacks that one alone.
  const tallies = facets.map((one) => new Int32Array(one.sets.length)),
    has = new Uint8Array(groups.length);
  groups.forEach((sets, group) => {
    const missed = sets.flatMap((set, f) => (fits[f] && !fits[f][set] ? f : []));
    has[group] = missed.length ? 0 : 1;
    if (missed.length < 2)
      (missed.length ? missed : sets.map((_, f) => f)).forEach((f) => {
        tallies[f][sets[f]] += sizes[group];
      });
  });
  const rows = among ? among.filter((i) => has[of[i]]) : [];
  if (!among) for (let i = 0; i < length; i++) if (has[of[i]]) rows.push(i);
  const counts = facets.map(({ values, sets }, f) => {
    const tally = new Int32Array(values.length);
    sets.forEach((ids, set) =>
      ids.forEach((id) => {
        tally[id] += tallies[f][set];
      }),
    );
    return tally;
  });
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
