// Lineage: the document holds one hop of each column, up and down; the walk is here.

// One hop up from a column: its steps, and the columns or relations that it is made of.
function hop(reference) {
  const [name, column] = split(reference);
  const thing = relation(name);
  const found = thing && thing.up && thing.up[column];
  return found
    ? { steps: found[0], values: found[1], counts: found[2], rows: rowSet(found[3]), problem: found[4] }
    : null;
}
// The columns that decide which rows a column has; neighbours share one set.
const rowSet = (number) => (typeof number === 'number' ? part('row-sets').sets[number] : []);
const setsOf = once(() => {
  const by = new Map();
  part('row-sets').sets.forEach((set, number) =>
    set.forEach((reference) => {
      if (!by.has(reference)) by.set(reference, []);
      by.get(reference).push(number);
    }),
  );
  return by;
});
function hopsDown(reference) {
  const [name, column] = split(reference);
  const thing = relation(name);
  return (thing && thing.down && thing.down[column]) || [];
}
// What decides which rows a column has, its own hop only.
const decides = (found) => found.rows.filter((origin) => !found.values.includes(origin));

// The columns that a column is made of, with theirs, up to a bound: {columns, edges, cut}. With `rows`, what only
// decides which rows there are as well. An edge is [from, to, kind]; a relation whose rows are counted is `name:*`.
function walkUp(start, { rows = false, most = 160 } = {}) {
  const columns = new Set([start]),
    edges = [],
    waiting = [start];
  let cut = 0;
  const reach = (from, to, kind) => {
    if (!columns.has(from)) {
      if (columns.size >= most) {
        cut++;
        return;
      }
      columns.add(from);
      waiting.push(from);
    }
    edges.push([from, to, kind]);
  };
  while (waiting.length) {
    const at = waiting.shift(),
      [name, column] = split(at);
    if (column === '*') {
      // Rows that are counted are those of what the relation reads.
      const thing = relation(name);
      for (const above of (thing && thing.reads) || []) reach(`${above}:*`, at, 'counts');
      continue;
    }
    const found = hop(at);
    if (!found) continue;
    for (const from of found.values) reach(from, at, 'values');
    for (const from of found.counts) reach(`${from}:*`, at, 'counts');
    if (rows) for (const from of decides(found)) reach(from, at, 'rows');
  }
  return { columns, edges, cut };
}

// The columns that hold a column's values, or count its rows, further down; services at the end.
function walkDown(start, { most = 80, kinds = ['values', 'counts'], services = true } = {}) {
  const columns = new Set([start]),
    edges = [],
    waiting = [start];
  let cut = 0;
  const reach = (from, to, kind) => {
    if (!columns.has(to)) {
      if (columns.size >= most) {
        cut++;
        return;
      }
      columns.add(to);
      waiting.push(to);
    }
    edges.push([from, to, kind]);
  };
  while (waiting.length) {
    const at = waiting.shift();
    for (const [to, kind] of hopsDown(at)) if (kinds.includes(kind)) reach(at, to, kind);
    if (services && viewNumbers.has(split(at)[0])) for (const one of servicesOf(at)) reach(at, `${one}:*`, 'values');
  }
  return { columns, edges, cut };
}

const servicesOf = (() => {
  const by = once(() => {
    const map = new Map();
    for (const one of head.services)
      for (const reference of one.features) {
        if (!map.has(reference)) map.set(reference, []);
        map.get(reference).push(one.name);
      }
    return map;
  });
  return (reference) => by().get(reference) || [];
})();

// Which features hold a column's values, and of how many it only decides the rows, however far down.
function reaches(start) {
  const values = new Set(),
    deciding = new Set();
  const seen = new Map([[start, 1]]),
    waiting = [start],
    done = new Set();
  while (waiting.length) {
    const at = waiting.pop(),
      carries = seen.get(at) === 1;
    if (at !== start && viewNumbers.has(split(at)[0]) && featureNumbers().has(at))
      (carries ? values : deciding).add(at);
    const go = (to, level) => {
      const before = seen.get(to);
      if (before && before <= level) return;
      seen.set(to, level);
      waiting.push(to);
    };
    for (const [to, kind] of hopsDown(at)) go(to, carries && kind === 'values' ? 1 : 2);
    for (const number of setsOf().get(at) || []) {
      if (done.has(number)) continue;
      done.add(number);
      part('row-sets').columns[number].forEach((to) => go(to, 2));
    }
  }
  for (const one of values) deciding.delete(one);
  return { values: [...values], rows: [...deciding] };
}

// Of a relation: the features made of any of its columns or of its rows, and those whose rows only depend on it.
function reachesOfRelation(thing) {
  const values = new Set(),
    rows = new Set();
  const starts = distinct([...Object.keys(thing.down || {}), ...(thing.columns || []).map((column) => column.name)]);
  for (const column of starts) {
    const all = reaches(`${thing.name}:${column}`);
    all.values.forEach((one) => values.add(one));
    if (column === '*') all.rows.forEach((one) => values.add(one));
    else all.rows.forEach((one) => rows.add(one));
  }
  values.forEach((one) => rows.delete(one));
  return { values: [...values], rows: [...rows] };
}

// How a column is computed, outermost first: only the steps that compute. A step is {reference, name, part, texts}.
function derivation(start, most = 60) {
  const out = [],
    seen = new Set([start]),
    waiting = [start];
  while (waiting.length && out.length < most) {
    const at = waiting.shift(),
      found = hop(at);
    if (!found) continue;
    const [, column] = split(at);
    // Branches of one UNION give several expressions for one name in one part: they are one step.
    const steps = new Map();
    for (const [name, sql, partName] of found.steps) {
      const key = `${partName || ''}.${name}`;
      if (!steps.has(key)) steps.set(key, { reference: at, name, part: partName, texts: [] });
      if (!steps.get(key).texts.includes(sql)) steps.get(key).texts.push(sql);
    }
    const own = [...steps.values()];
    // The outermost step is the column itself, whatever it is called inside.
    if (own.length) own[0] = { ...own[0], name: column, whole: true };
    // One branch that computes, beside others that take a column over as it is.
    if (
      own.length === 1 &&
      own[0].name === column &&
      own[0].part &&
      found.values.length === 1 &&
      !own[0].texts.some((text) => text.includes(split(found.values[0])[1]))
    ) {
      own[0] = { ...own[0], texts: [...own[0].texts, split(found.values[0])[1]] };
    }
    out.push(...own);
    for (const from of found.values)
      if (!seen.has(from)) {
        seen.add(from);
        waiting.push(from);
      }
  }
  return out;
}

// The ends of a walk up: source columns whose values these are, and relations whose rows are counted.
function ends(walk) {
  const above = new Set(walk.edges.map(([, to]) => to));
  return [...walk.columns].filter((one) => !above.has(one) && sourceNumbers().has(split(one)[0]));
}
