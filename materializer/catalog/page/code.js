// Code as it is shown: a caption, a button that copies it, and a few kinds of words tinted.

const SQL_WORDS = new Set(
  (
    'all and any as asc asof between by case cast coalesce count cross current_row date decimal desc distinct double else end ' +
    'except exists extract false filter following from full group having in inner integer intersect interval is join lateral left like limit max min not ' +
    'null nullif offset on or order outer over partition preceding qualify range right rows select sum then time timestamp true unbounded union unnest ' +
    'using values varchar when where window with within'
  ).split(' '),
);
const PYTHON_WORDS = new Set(
  'and as def for from if import in is lambda None not or return True False with'.split(' '),
);
const TOKENS = {
  sql: /(--[^\n]*|\{#[\s\S]*?#\}|\/\*[\s\S]*?\*\/)|('(?:[^']|'')*'|"[^"\n]*")|(\b[a-zA-Z_][a-zA-Z_0-9]*\b)/g,
  python: /(#[^\n]*)|("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(\b[a-zA-Z_][a-zA-Z_0-9]*\b)/g,
  shell: /((?:^|\s)#[^\n]*)|('[^']*'|"[^"]*")|(\b[a-zA-Z_][a-zA-Z_0-9]*\b)/g,
};

function tinted(text, language) {
  const pattern = TOKENS[language];
  if (!pattern || text.length > 60000) return [text];
  const out = [];
  let at = 0,
    plain = '';
  const flush = () => {
    if (plain) {
      out.push(plain);
      plain = '';
    }
  };
  for (const match of text.matchAll(pattern)) {
    plain += text.slice(at, match.index);
    at = match.index + match[0].length;
    const known =
      language === 'sql'
        ? SQL_WORDS.has((match[3] || '').toLowerCase())
        : language === 'python' && PYTHON_WORDS.has(match[3]);
    const kind = match[1] ? 't-c' : match[2] ? 't-s' : known ? 't-k' : null;
    if (kind) {
      flush();
      out.push(h('span', { class: kind }, match[0]));
    } else plain += match[0];
  }
  plain += text.slice(at);
  flush();
  return out;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // A page from a file may not use the clipboard of some browsers, and may still copy what is chosen.
    const area = h('textarea', { class: 'sr', 'aria-hidden': 'true', tabindex: -1 }, text);
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    return done;
  }
}

function copyButton(text, label = 'Copy', kind = 'copy', about = null) {
  const name = about ? `${label} ${about}` : null;
  return h(
    'button',
    {
      type: 'button',
      class: kind,
      'aria-label': name,
      click: async (event) => {
        const button = event.currentTarget;
        const done = await copy(typeof text === 'function' ? text() : text);
        button.textContent = done ? 'Copied' : 'Not allowed';
        byId('live').textContent = done ? 'Copied' : 'The browser did not allow copying';
        button.focus();
        setTimeout(() => {
          button.textContent = label;
        }, 1600);
      },
    },
    label,
  );
}

// `lines` are the numbers of lines to light up.
function code(text, language, caption, { tall = false, lines = null } = {}) {
  const body = h('pre', { class: tall ? 'tall' : null, tabindex: 0, role: 'region', 'aria-label': caption || 'Code' });
  if (lines && lines.size) {
    text
      .split('\n')
      .forEach((line, index) =>
        append(body, [
          lines.has(index) ? h('span', { class: 'hl' }, tinted(line, language)) : tinted(line, language),
          '\n',
        ]),
      );
  } else append(body, tinted(text, language));
  return h(
    'div',
    { class: 'code' },
    h(
      'div',
      { class: 'cap' },
      h('span', null, caption),
      copyButton(text, 'Copy', 'copy', caption ? `: ${caption}` : null),
    ),
    body,
  );
}

// The lines of a view's SQL that name a feature, to be lit up: those of its last SELECT where they can be told.
function linesOf(sql, name) {
  const lines = sql.split('\n'),
    word = new RegExp(`(^|[^\\w])${name.replace(/[^\w]/g, '\\$&')}([^\\w]|$)`);
  const all = lines.flatMap((line, index) => (word.test(line.replace(/--.*/, '')) ? [index] : []));
  return new Set(all.slice(-1));
}
