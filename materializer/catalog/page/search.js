// Search: each word must be found, in a name, a description, a tag, an owner, a type or SQL. A word counts more in a
// name than in a sentence, whole more than as a part.

const KINDS = ['view', 'feature', 'entity', 'service', 'source', 'model'];
const NARROW = /^(kind|owner|tag|entity|type):(.*)$/;

// The words of a query, and what narrows it: `kind:view owner:growth`.
function understood(query) {
  const words = [],
    narrow = [];
  for (const word of query.toLowerCase().split(/\s+/)) {
    const found = NARROW.exec(word);
    if (found) {
      if (found[2]) narrow.push([found[1], found[2]]);
    } else if (word) words.push(word);
  }
  return { words, narrow };
}

// All things as columns: kind, name, and the text to search in, in lower case; features come last.
const searchable = once(() => {
  const kinds = [],
    names = [],
    lower = [],
    texts = [],
    hrefs = [];
  const add = (kind, name, short, text, number) => {
    kinds.push(kind);
    names.push(name);
    lower.push(short.toLowerCase());
    texts.push(text.toLowerCase());
    hrefs.push(number);
  };
  const viewTexts = head.views.map(
    (view) => `${view.tags.join(' ')} ${ownerKey(view.owner)} ${ownerName(view.owner)} ${view.entities.join(' ')}`,
  );
  head.views.forEach((view, index) =>
    add(
      0,
      view.name,
      view.name,
      `${view.name} ${view.description} ${viewTexts[index]} ${features().reads[index].join(' ')}`,
      index,
    ),
  );
  head.entities.forEach((one, index) =>
    add(2, one.name, one.name, `${one.name} ${one.description || ''} ${one.type || ''}`, index),
  );
  head.services.forEach((one, index) =>
    add(
      3,
      one.name,
      one.name,
      `${one.name} ${one.label || ''} ${one.description || ''} ${ownerKey(one.owner)} ${ownerName(one.owner)} ${(one.tags || []).join(' ')}`,
      index,
    ),
  );
  sources().forEach((one, index) =>
    add(4, one.name, one.name, `${one.name} ${one.description} ${one.location} ${one.columns.join(' ')}`, index),
  );
  models().forEach((one, index) => add(5, one.name, one.name, `${one.name} ${one.description}`, index));
  const index = features();
  for (let i = 0; i < index.name.length; i++) {
    const view = index.view[i];
    const reference = `${head.views[view].name}:${index.name[i]}`;
    add(
      1,
      reference,
      index.name[i],
      `${reference} ${index.types[index.type[i]]} ${index.description[i]} ${viewTexts[view]} ${index.sql[i]}`,
      i,
    );
  }
  return { kinds: Uint8Array.from(kinds), names, lower, texts, numbers: hrefs };
});

// Whether the thing at `i` has what narrows the query.
function narrowed(all, i, narrow) {
  for (const [what, value] of narrow) {
    const kind = KINDS[all.kinds[i]],
      number = all.numbers[i];
    if (what === 'kind') {
      if (!kind.startsWith(value)) return false;
      continue;
    }
    if (what !== 'type' && !all.texts[i].includes(value)) return false;
    const view = kind === 'view' ? head.views[number] : kind === 'feature' ? head.views[features().view[number]] : null;
    const thing = view || (kind === 'service' ? head.services[number] : null);
    if (what === 'owner') {
      if (!thing || !`${ownerKey(thing.owner)} ${ownerName(thing.owner)}`.toLowerCase().includes(value)) return false;
    } else if (what === 'tag') {
      if (!thing || !(thing.tags || []).some((tag) => tag.toLowerCase().includes(value))) return false;
    } else if (what === 'entity') {
      if (
        !(view
          ? view.entities.some((name) => name.toLowerCase().includes(value))
          : kind === 'entity' && all.lower[i].includes(value))
      )
        return false;
    } else {
      const type =
        kind === 'feature'
          ? features().types[features().type[number]]
          : kind === 'entity'
            ? head.entities[number].type || ''
            : null;
      if (
        type === null
          ? !(kind === 'view' && view.types.some((one) => one.includes(value)))
          : !type.toLowerCase().includes(value)
      )
        return false;
    }
  }
  return true;
}

const WEIGHT = [3, 2, 1, 1, 1, 1];
function score(all, i, words) {
  const name = all.lower[i],
    text = all.texts[i];
  let points = WEIGHT[all.kinds[i]] - name.length / 200 - all.names[i].length / 5000;
  for (const word of words) {
    const at = name.indexOf(word);
    if (at < 0)
      points += text.indexOf(word) < all.names[i].length ? 10 : 3; // a text begins with the whole name
    else if (name === word) points += 60;
    else points += at === 0 ? 30 : name[at - 1] === '_' || name[at - 1] === '.' ? 22 : 14;
  }
  return points;
}

// Numbers of all things that have every word, in no order. A query that goes on from the one before looks only among
// what that one found.
let before = { query: null, hits: null };
function found(query) {
  const all = searchable(),
    { words, narrow } = understood(query);
  const lower = query.toLowerCase();
  const goesOn = before.query && lower.startsWith(before.query) && !lower.includes(':') && !before.query.includes(':');
  const among = goesOn ? before.hits : null;
  const hits = [];
  const length = among ? among.length : all.texts.length;
  for (let n = 0; n < length; n++) {
    const i = among ? among[n] : n,
      text = all.texts[i];
    let has = true;
    for (const word of words) {
      if (!text.includes(word)) {
        has = false;
        break;
      }
    }
    if (has && (!narrow.length || narrowed(all, i, narrow))) hits.push(i);
  }
  before = { query: lower, hits };
  return hits;
}

// The best hits of a query, best first, and how many there are.
function search(query, most) {
  const { words } = understood(query),
    all = searchable(),
    hits = found(query);
  // Of one word, names that begin with it come before all others, and names that have it before other texts: where there
  // are enough of the better ones, only those are weighed.
  let weighed = hits;
  for (const better of words.length === 1 ? ['includes', 'startsWith'] : []) {
    const some = weighed.filter((i) => all.lower[i][better](words[0]));
    if (some.length < most) break;
    weighed = some;
  }
  const best = [];
  for (const i of weighed) {
    const points = score(all, i, words);
    if (best.length === most && points <= best[most - 1][0]) continue;
    let at = best.length;
    while (
      at &&
      (best[at - 1][0] < points || (best[at - 1][0] === points && all.names[best[at - 1][1]] > all.names[i]))
    )
      at--;
    best.splice(at, 0, [points, i]);
    if (best.length > most) best.pop();
  }
  return { count: hits.length, hits, best: best.map(([, i]) => i) };
}

// Makes ready what a search needs; code that ran before runs faster.
function practise() {
  for (const query of ['e', 'er', 's']) listOf(query, search(query, 12));
  before = { query: null, hits: null };
}

function hitAddress(i) {
  const all = searchable(),
    kind = KINDS[all.kinds[i]];
  return address(kind, all.names[i]);
}
function hitDescription(i) {
  const all = searchable(),
    number = all.numbers[i];
  return (
    [
      () => head.views[number].description,
      () => features().description[number],
      () => head.entities[number].description,
      () => head.services[number].description,
      () => sources()[number].description,
      () => models()[number].description,
    ][all.kinds[i]]() || ''
  );
}

// A text with the words of a query marked in it.
function marked(text, query, breaks) {
  const { words } = understood(query),
    piece = breaks ? (part) => [soft(part)].flat() : (part) => [part];
  const lower = text.toLowerCase(),
    out = [];
  let at = 0;
  while (at < text.length && words.length) {
    let next = -1,
      length = 0;
    for (const word of words) {
      const i = lower.indexOf(word, at);
      if (i >= 0 && (next < 0 || i < next || (i === next && word.length > length))) {
        next = i;
        length = word.length;
      }
    }
    if (next < 0) break;
    out.push(...piece(text.slice(at, next)), h('mark', null, text.slice(next, next + length)));
    at = next + length;
  }
  out.push(...piece(text.slice(at)));
  return out;
}
