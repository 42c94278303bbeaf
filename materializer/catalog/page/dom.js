// Elements are made here and nowhere else. Text is only ever a text node, so nothing in a catalog can become markup.

const h = (tag, attributes, ...children) => filled(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) =>
  filled(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);
const byId = (id) => document.getElementById(id);

function filled(element, attributes, children) {
  for (const name in attributes) {
    const value = attributes[name];
    if (value === null || value === undefined) continue;
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (name === 'checked' || name === 'disabled' || name === 'hidden' || name === 'selected' || name === 'open') {
      if (value) element.setAttribute(name, '');
    } else if (name === 'value') element.value = value;
    else element.setAttribute(name, value);
  }
  append(element, children);
  return element;
}

function append(parent, children) {
  for (const child of children) {
    if (Array.isArray(child)) append(parent, child);
    else if (child !== null && child !== undefined && child !== false) {
      parent.append(typeof child === 'object' ? child : String(child));
    }
  }
}

function refill(parent, ...children) {
  const fragment = document.createDocumentFragment();
  append(fragment, children);
  parent.replaceChildren(fragment);
}

// A name may break after what joins its words, and is never cut. Short ones stay whole: each place to break costs time.
function soft(text) {
  const whole = String(text);
  if (whole.length <= 12) return whole;
  return whole.split(/(?<=[_:./])/).flatMap((part, index) => (index ? [h('wbr'), part] : [part]));
}

function icon(...paths) {
  return s(
    'svg',
    { width: 18, height: 18, viewBox: '0 0 18 18', 'aria-hidden': 'true', class: 'icon' },
    paths.map((d) => s('path', { d })),
  );
}

let saying;
function say(text) {
  clearTimeout(saying);
  saying = setTimeout(() => {
    byId('live').textContent = text;
  }, 300);
}

// What a browser keeps for this page; from a file some keep nothing.
const kept = {
  get(name) {
    try {
      return localStorage.getItem('feature-catalog-' + name);
    } catch {
      return null;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem('feature-catalog-' + name, value);
    } catch {
      /* then it is not kept */
    }
  },
};

function once(make) {
  let value;
  return () => (value === undefined ? (value = make()) : value);
}
