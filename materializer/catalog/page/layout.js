// Where the boxes of a lineage drawing stand: in columns from left to right by the longest way from a source; within a
// column in an order that crosses few edges, at the height of what they are joined to.

const GAP_X = 38,
  GAP_Y = 14,
  ROW = 22,
  HEAD = 24;

// `boxes`: [{id, width, height, rows}], `joins`: [[from, to]] between ids. Sets x and y of each box, and returns the size
// and the bends of the edges that pass a column by: {width, height, bends: Map(from and to -> [[x, y]])}.
function layout(boxes, joins) {
  const by = new Map(boxes.map((box) => [box.id, box]));
  const edges = joins.filter(([from, to]) => from !== to && by.has(from) && by.has(to));
  const into = new Map(boxes.map((box) => [box.id, []]));
  edges.forEach(([from, to]) => into.get(to).push(from));
  const rank = new Map();
  const rankOf = (id, way) => {
    if (rank.has(id)) return rank.get(id);
    if (way.has(id)) return 0; // a loop, which dbt does not allow
    way.add(id);
    const value = into.get(id).length ? Math.max(...into.get(id).map((from) => rankOf(from, way) + 1)) : 0;
    way.delete(id);
    rank.set(id, value);
    return value;
  };
  boxes.forEach((box) => rankOf(box.id, new Set()));

  // An edge over several columns holds a place in each that it passes.
  const nodes = [...boxes],
    links = [],
    bends = new Map();
  for (const [from, to] of edges) {
    let last = from;
    const passed = [];
    for (let at = rank.get(from) + 1; at < rank.get(to); at++) {
      const stop = { id: `${from}\n${to}\n${at}`, width: 0, height: 8, stop: true };
      rank.set(stop.id, at);
      nodes.push(stop);
      links.push([last, stop.id]);
      passed.push(stop);
      last = stop.id;
    }
    links.push([last, to]);
    if (passed.length) bends.set(`${from}\n${to}`, passed);
  }

  const columns = [];
  nodes.forEach((node) => (columns[rank.get(node.id)] ||= []).push(node));
  const all = new Map(nodes.map((node) => [node.id, node]));
  const left = new Map(nodes.map((node) => [node.id, []])),
    right = new Map(nodes.map((node) => [node.id, []]));
  links.forEach(([from, to]) => {
    right.get(from).push(all.get(to));
    left.get(to).push(all.get(from));
  });

  const number = () =>
    columns.forEach((column) =>
      column.forEach((node, index) => {
        node.order = index;
      }),
    );
  const mean = (near, key, otherwise) =>
    near.length ? near.reduce((sum, node) => sum + node[key], 0) / near.length : otherwise;
  number();
  for (let turn = 0; turn < 8; turn++) {
    const side = turn % 2 ? right : left;
    for (const column of turn % 2 ? [...columns].reverse() : columns) {
      const wish = new Map(column.map((node) => [node.id, mean(side.get(node.id), 'order', node.order)]));
      column.sort((a, b) => wish.get(a.id) - wish.get(b.id) || a.order - b.order);
      column.forEach((node, index) => {
        node.order = index;
      });
    }
  }

  let x = 0;
  for (const column of columns) {
    const width = Math.max(...column.map((node) => node.width), 0);
    let y = 0;
    for (const node of column) {
      Object.assign(node, { x, y, span: width });
      y += node.height + GAP_Y;
    }
    x += width + GAP_X;
  }
  // Each box moves to the middle of its neighbours as far as the order in its column lets it.
  const middle = (node) => node.y + node.height / 2;
  for (let turn = 0; turn < 12; turn++) {
    for (const column of turn % 2 ? [...columns].reverse() : columns) {
      const wished = column.map((node) => {
        const near = [...left.get(node.id), ...right.get(node.id)];
        return near.length ? near.reduce((sum, one) => sum + middle(one), 0) / near.length - node.height / 2 : node.y;
      });
      place(column, wished);
    }
  }
  const top = Math.min(...nodes.map((node) => node.y));
  nodes.forEach((node) => {
    node.y = Math.round(node.y - top);
  });
  const places = new Map(
    [...bends].map(([key, passed]) => [key, passed.map((stop) => [stop.x, stop.span, stop.y + stop.height / 2])]),
  );
  return { width: x - GAP_X, height: Math.max(...nodes.map((node) => node.y + node.height)), bends: places };
}

// Heights as near as possible to the wished ones without overlap: groups that would overlap are moved as one.
function place(column, wished) {
  const groups = [];
  column.forEach((node, index) => {
    let group = { from: index, size: node.height + GAP_Y, sum: wished[index], n: 1 };
    while (groups.length) {
      const before = groups[groups.length - 1];
      if (before.sum / before.n + before.size <= group.sum / group.n) break;
      groups.pop();
      group = {
        from: before.from,
        size: before.size + group.size,
        sum: before.sum + group.sum - before.size * group.n,
        n: before.n + group.n,
      };
    }
    groups.push(group);
  });
  groups.forEach((group, index) => {
    let y = group.sum / group.n;
    const end = index + 1 < groups.length ? groups[index + 1].from : column.length;
    for (let i = group.from; i < end; i++) {
      column[i].y = y;
      y += column[i].height + GAP_Y;
    }
  });
}
