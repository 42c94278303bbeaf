// The catalog document, read in the parts it comes in: the head now, indexes when first needed, pieces when shown.

const read = (id) => JSON.parse(byId(id).textContent);
const head = read('head');
head.views.forEach((view) => {
  view.owner = head.owners[view.owner];
});
const served = document.documentElement.dataset.served === 'yes';

// Thrown by what needs a part that the browser has not come to yet; the page is drawn again when it has.
class NotYet extends Error {}

const cache = new Map();
function part(id) {
  let value = cache.get(id);
  if (value === undefined) {
    // Whatever follows an element tells that the browser has read all of it.
    const element = byId(id);
    if (!element || (document.readyState === 'loading' && !element.nextElementSibling)) throw new NotYet();
    value = JSON.parse(blockText(element));
    cache.set(id, value);
  }
  return value;
}

const named = (list) => new Map(list.map((thing, index) => [thing.name, index]));
const viewNumbers = named(head.views),
  serviceNumbers = named(head.services),
  entityNumbers = named(head.entities);
const features = () => part('features');

const models = once(() =>
  part('relations').models.map(([name, description, kind, materialized, file, status]) => ({
    name,
    description,
    kind,
    materialized,
    file,
    status,
  })),
);
const sources = once(() =>
  part('relations').sources.map(([name, description, location, rows, newest, columns, warn, error]) => ({
    name,
    description,
    location,
    rows,
    newest,
    columns,
    warn,
    error,
  })),
);
const modelNumbers = once(() => named(models())),
  sourceNumbers = once(() => named(sources()));

// A view, model or source with all that is known of it; null where there is none of that name.
function whole(kind, name) {
  const numbers = { view: () => viewNumbers, model: modelNumbers, source: sourceNumbers }[kind]();
  const index = numbers.get(name);
  if (index === undefined) return null;
  const starts = head.pieces[kind + 's'];
  let start = 0;
  for (const next of starts) {
    if (next > index) break;
    start = next;
  }
  return part(`${kind}s-${start}`)[index - start];
}
const service = (name) => head.services[serviceNumbers.get(name)];
const entity = (name) => head.entities[entityNumbers.get(name)];

// Which kind of relation has this name, as `columns` and `reads` call it.
function kindOf(name) {
  if (viewNumbers.has(name)) return 'view';
  if (sourceNumbers().has(name)) return 'source';
  if (modelNumbers().has(name)) return 'model';
  return serviceNumbers.has(name) ? 'service' : null;
}
function relation(name) {
  const kind = kindOf(name);
  return kind === 'service' ? service(name) : kind && whole(kind, name);
}

function split(reference) {
  const at = reference.lastIndexOf(':');
  return at < 0 ? [reference, null] : [reference.slice(0, at), reference.slice(at + 1)];
}

// Number of a feature in the index, by its reference.
const featureNumbers = once(() => {
  const { view, name } = features();
  return new Map(name.map((text, index) => [`${head.views[view[index]].name}:${text}`, index]));
});
const referenceOf = (index) => `${head.views[features().view[index]].name}:${features().name[index]}`;

// Where the features of a view begin in the index: they stand in the order of the views.
const firstFeature = once(() => {
  let next = 0;
  return head.views.map((view) => {
    next += view.features;
    return next - view.features;
  });
});

function feature(reference) {
  const [name, column] = split(reference);
  const view = viewNumbers.has(name) ? whole('view', name) : null;
  return (view && view.features.find((one) => one.name === column)) || null;
}

// The training sets that were recorded with any of these features, the newest first.
const trainedOn = once(() => {
  const by = new Map();
  for (const set of [...part('training-sets')].sort((a, b) => (a.made_at < b.made_at ? 1 : -1))) {
    for (const reference of set.features) {
      for (const key of [reference, split(reference)[0]]) {
        if (!by.has(key)) by.set(key, new Set());
        by.get(key).add(set);
      }
    }
  }
  return by;
});
const trainingSetsOf = (reference) => [...(trainedOn().get(reference) || [])];

const findings = () => part('findings').findings;
const foundFor = once(() => {
  const by = new Map();
  for (const finding of findings()) {
    for (const key of distinct([finding.ref, split(finding.ref)[0]])) {
      if (!by.has(key)) by.set(key, []);
      by.get(key).push(finding);
    }
  }
  return by;
});

// Addresses. Every thing has one; a column's is its relation's page with the column chosen.
function address(kind, name, query) {
  const text = query && new URLSearchParams(query).toString();
  return `#/${kind}/${encodeURIComponent(name).replace(/%3A/g, ':')}${text ? '?' + text : ''}`;
}
function columnAddress(reference) {
  const [name, column] = split(reference);
  const kind = kindOf(name);
  if (kind === 'view' && column && featureNumbers().has(reference)) return address('feature', reference);
  return kind ? address(kind, name, column && column !== '*' && kind !== 'view' ? { column } : null) : null;
}
// A finding's, a test's or anybody's reference, whatever kind it is of.
function anyAddress(reference) {
  if (kindOf(reference)) return address(kindOf(reference), reference);
  return columnAddress(reference) || (entityNumbers.has(reference) ? address('entity', reference) : null);
}
