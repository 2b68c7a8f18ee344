// The console: it asks the API under /v1 with the operator's token, which this tab keeps for itself.
// Whatever comes from the daemon, and so from clients, becomes text and nothing else.
'use strict';
(() => {
  const HOUR_MS = 3600e3;
  const STATUS_MS = 2000;
  const HISTORY_MS = 5000;
  const ROWS = 100;
  const ROWS_MAX = 1000;
  const $ = (id) => document.getElementById(id);
  let token = sessionStorage.getItem('fanfare-token');

  // An element with properties, and texts or elements inside.
  function el(name, properties, ...inside) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(properties || {})) {
      if (key === 'data') Object.assign(made.dataset, value); else made[key] = value;
    }
    made.append(...inside);
    return made;
  }

  // The answer to a request. Of an error it throws the sentence.
  async function ask(path, { method = 'GET', parameters = {}, body } = {}) {
    const given = Object.entries(parameters).filter(([, value]) => value !== '' && value != null);
    const query = given.length ? `?${new URLSearchParams(given)}` : '';
    const headers = { Authorization: `Bearer ${token}` };
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    let response;
    try {
      response = await fetch(path + query, { method, headers, body, signal: AbortSignal.timeout(15000) });
    } catch {
      throw new Error('The daemon does not answer.');
    }
    const text = await response.text();
    if (response.status === 401 && !$('console').hidden) leave('The token is no longer taken.');
    if (response.ok) return JSON.parse(text);
    let reason = text.trim();
    try { reason = JSON.parse(text).error; } catch { /* It is a sentence. */ }
    throw Object.assign(new Error(reason || `status ${response.status}`), { status: response.status });
  }

  // Numbers and times as people read them.
  const grouped = (value) => Math.round(value).toLocaleString('en-US');
  const rate = (value) => (value > 0 && value < 10 ? String(+value.toFixed(value < 1 ? 2 : 1)) : grouped(value));
  function size(bytes) {
    const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
    let unit = 0;
    for (; bytes >= 1024 && unit < 4; unit += 1) bytes /= 1024;
    return `${unit === 0 ? Math.round(bytes) : bytes.toFixed(1)} ${units[unit]}`;
  }
  function latency(us) {
    if (us == null) return '–';
    if (us < 1000) return `${Math.round(us)} µs`;
    return us < 1e6 ? `${+(us / 1e3).toPrecision(3)} ms` : `${+(us / 1e6).toPrecision(3)} s`;
  }
  function age(seconds) {
    const s = Math.max(0, Math.floor(seconds));
    if (s < 120) return `${s} s`;
    if (s < 7200) return `${Math.floor(s / 60)} min`;
    return s < 172800 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86400)} d`;
  }
  const since = (ms) => age((Date.now() - ms) / 1000);
  const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit' });
  const sum = (counts) => Object.values(counts).reduce((all, count) => all + count, 0);

  // ---- Plots: of the last hour, on canvas ----

  class Plot {
    // `kind`: lines, stack or bars. `shown` writes a value; `base` is that of its units.
    constructor(id, kind, shown, { log = false, base = 10 } = {}) {
      Object.assign(this, { canvas: $(id), kind, shown, log, base, times: [], series: [] });
      this.legend = el('ul', { className: 'legend' });
      this.canvas.after(this.legend);
      new ResizeObserver(() => this.draw()).observe(this.canvas);
      this.canvas.addEventListener('pointermove', (event) => this.point(event));
      this.canvas.addEventListener('pointerleave', () => this.point(null));
    }

    // Shows series: each a name, and a value or null for each of the times.
    show(times, series) {
      const names = series.map(({ name }) => name);
      if (String(names) !== String(this.series.map(({ name }) => name))) {
        this.legend.replaceChildren(...names.map((name, index) => el('li', {}, this.key(index), name)));
      }
      Object.assign(this, { times, series });
      this.draw();
    }

    key(index) {
      const key = el('i');
      key.style.background = `var(--s${index % 7})`;
      return key;
    }

    x(time) {
      return this.left + (this.width - this.left) * (1 - (this.now - time) / (this.minutes * 60e3));
    }

    y(value) {
      const [low, high] = this.range;
      const part = this.log
        ? Math.log(Math.max(value, low) / low) / Math.log(high / low)
        : value / high;
      return this.bottom - part * (this.bottom - this.top);
    }

    draw() {
      const { canvas, times, series } = this;
      const { width, height } = canvas.getBoundingClientRect();
      if (width === 0) return;
      const dots = window.devicePixelRatio || 1;
      canvas.width = Math.round(width * dots);
      canvas.height = Math.round(height * dots);
      Object.assign(this, { width, top: 16, bottom: height - 18, now: times.at(-1) || Date.now() });
      // What is known has the whole width, also while that is less than an hour.
      const known = (this.now - (times[0] || this.now)) / 60e3;
      this.minutes = [5, 10, 20, 60].find((minutes) => minutes >= known) || 60;
      const style = getComputedStyle(document.documentElement);
      const colour = (name) => style.getPropertyValue(name).trim();
      const pen = canvas.getContext('2d');
      pen.scale(dots, dots);
      pen.font = `11px ${getComputedStyle(document.body).fontFamily}`;
      this.range = this.scale();
      const marks = this.marks().map((value) => ({ value, text: this.shown(value) }));
      // The values stand beside the plot, as wide as the widest.
      this.left = Math.max(...marks.map(({ text }) => pen.measureText(text).width)) + 8;

      pen.strokeStyle = colour('--line');
      pen.fillStyle = colour('--soft');
      pen.lineWidth = 1;
      pen.textAlign = 'right';
      for (const { value, text } of marks) {
        const y = Math.round(this.y(value)) + 0.5;
        pen.beginPath();
        pen.moveTo(this.left, y);
        pen.lineTo(width, y);
        pen.stroke();
        pen.fillText(text, this.left - 8, y + 3.5);
      }
      for (const part of this.minutes < 60 || width < 420 ? [1, 0.5, 0] : [1, 0.75, 0.5, 0.25, 0]) {
        const minutes = part * this.minutes;
        pen.textAlign = part === 1 ? 'left' : part === 0 ? 'right' : 'center';
        const text = minutes === 0 ? 'now' : `−${minutes} min`;
        pen.fillText(text, this.x(this.now - minutes * 60e3), height - 3);
      }
      pen.beginPath();
      pen.rect(this.left, 0, width - this.left, this.bottom + 1);
      pen.clip();
      const colours = series.map((_, index) => colour(`--s${index % 7}`));
      if (this.kind === 'lines') this.lines(pen, colours); else this.stacked(pen, colours);
      if (this.at != null && times[this.at] != null) {
        pen.strokeStyle = colour('--soft');
        pen.beginPath();
        pen.moveTo(this.x(times[this.at]), this.top);
        pen.lineTo(this.x(times[this.at]), this.bottom);
        pen.stroke();
      }
    }

    // The values at the bottom and at the top.
    scale() {
      const all = this.kind === 'lines'
        ? this.series.flatMap(({ values }) => values)
        : this.times.map((_, at) => this.series.reduce((high, { values }) => high + (values[at] || 0), 0));
      const known = all.filter((value) => value != null && (!this.log || value > 0));
      const high = known.reduce((a, b) => Math.max(a, b), 0);
      if (this.log) {
        const low = known.reduce((a, b) => Math.min(a, b), high || 100);
        return [10 ** Math.floor(Math.log10(low)), 10 ** Math.ceil(Math.log10((high || 1000) * 1.01))];
      }
      return [0, high > 0 ? high * 1.08 : 4];
    }

    // Where lines go across.
    marks() {
      const [low, high] = this.range;
      if (this.log) {
        const marks = [];
        for (let mark = low; mark < high * 1.01; mark *= 10) marks.push(mark);
        return marks;
      }
      const unit = this.base ** Math.max(0, Math.floor(Math.log(high) / Math.log(this.base)));
      const rough = high / 4 / (this.base === 10 ? 1 : unit);
      const power = 10 ** Math.floor(Math.log10(rough)) * (this.base === 10 ? 1 : unit);
      const steps = [1, 2, 5, 10].map((times) => times * power);
      // Sessions and ends come as a whole.
      const least = this.kind === 'lines' ? 0 : 1;
      const step = Math.max(least, steps.find((it) => it >= (high / 4) * 0.7));
      const marks = [];
      for (let mark = 0; mark <= high; mark += step) marks.push(mark);
      return marks;
    }

    lines(pen, colours) {
      this.series.forEach(({ values }, index) => {
        pen.strokeStyle = colours[index];
        pen.lineWidth = 1.6;
        pen.lineJoin = 'round';
        pen.beginPath();
        let is_down = false;
        values.forEach((value, at) => {
          if (value == null) { is_down = false; return; }
          const [x, y] = [this.x(this.times[at]), this.y(value)];
          // A value between gaps would have no line, so each begins with a dot.
          if (!is_down) pen.moveTo(x - 1, y);
          pen.lineTo(x, y);
          is_down = true;
        });
        pen.stroke();
      });
    }

    stacked(pen, colours) {
      const base = this.times.map(() => 0);
      const half = this.kind === 'bars' ? (this.width - this.left) / this.minutes / 2 - 0.5 : 0;
      this.series.forEach(({ values }, index) => {
        pen.fillStyle = colours[index];
        const tops = base.map((low, at) => low + (values[at] || 0));
        if (this.kind === 'bars') {
          tops.forEach((top, at) => {
            if (top > base[at]) {
              pen.fillRect(this.x(this.times[at]) - half, this.y(top), half * 2, this.y(base[at]) - this.y(top));
            }
          });
        } else {
          pen.globalAlpha = 0.85;
          pen.beginPath();
          this.times.forEach((time, at) => pen.lineTo(this.x(time), this.y(tops[at])));
          [...this.times].reverse().forEach((time, back) => {
            pen.lineTo(this.x(time), this.y(base[base.length - 1 - back]));
          });
          pen.fill();
          pen.globalAlpha = 1;
        }
        tops.forEach((top, at) => { base[at] = top; });
      });
    }

    // Tells the values below the pointer.
    point(event) {
      const tip = $('tip');
      this.at = null;
      if (event && this.times.length) {
        const x = event.clientX - this.canvas.getBoundingClientRect().left;
        const distance = (time) => Math.abs(this.x(time) - x);
        this.at = this.times.reduce((best, time, at) => (distance(time) < distance(this.times[best]) ? at : best), 0);
        const told = this.series.map(({ name, values }, index) => ({ name, value: values[this.at], index }));
        const rows = told.filter(({ value }) => this.kind !== 'bars' || value > 0)
          .map(({ name, value, index }) => el('p', {}, this.key(index), name, el('b', {}, value == null ? '–' : this.shown(value))));
        tip.replaceChildren(el('p', {}, clock(this.times[this.at])), ...rows);
        tip.hidden = false;
        const box = tip.getBoundingClientRect();
        const left = event.clientX + 16 + box.width > innerWidth ? event.clientX - box.width - 16 : event.clientX + 16;
        tip.style.left = `${Math.max(4, left)}px`;
        tip.style.top = `${Math.min(event.clientY + 12, innerHeight - box.height - 4)}px`;
      } else {
        tip.hidden = true;
      }
      this.draw();
    }
  }

  const cores = (value) => `${+value.toFixed(value < 0.1 ? 3 : 2)}`;
  const plots = {
    rates: new Plot('plot-rates', 'lines', rate),
    sessions: new Plot('plot-sessions', 'stack', grouped),
    latency: new Plot('plot-latency', 'lines', latency, { log: true }),
    ends: new Plot('plot-ends', 'bars', grouped),
    bytes: new Plot('plot-bytes', 'lines', size, { base: 1024 }),
    cpu: new Plot('plot-cpu', 'lines', cores),
  };

  // ---- Overview ----

  let past = { at_ms: [], series: {} };
  let last = null;

  // Adds the newer samples to the hour that is known.
  function remember({ at_ms, series }) {
    const known = past.at_ms.length;
    const all = { at_ms: past.at_ms.concat(at_ms), series: {} };
    for (const name of new Set([...Object.keys(past.series), ...Object.keys(series)])) {
      const before = past.series[name] || Array(known).fill(0);
      all.series[name] = before.concat(series[name] || Array(at_ms.length).fill(0));
    }
    const from = all.at_ms.findIndex((time) => time > (all.at_ms.at(-1) || 0) - HOUR_MS);
    past = { at_ms: all.at_ms.slice(Math.max(0, from)), series: {} };
    for (const [name, values] of Object.entries(all.series)) past.series[name] = values.slice(Math.max(0, from));
  }

  // The series of a sort, by what follows its name.
  const named = (sort) => Object.entries(past.series).filter(([name]) => name.startsWith(`${sort}.`))
    .map(([name, values]) => ({ name: name.slice(sort.length + 1), values }));

  function show_plots() {
    const { at_ms, series } = past;
    const of = (...pairs) => pairs.map(([name, key]) => ({ name, values: series[key] || [] }));
    plots.rates.show(at_ms, of(['deliveries', 'deliveries_s'], ['events', 'events_s']));
    plots.sessions.show(at_ms, named('sessions'));
    plots.latency.show(at_ms, of(['p50', 'latency_p50_us'], ['p99', 'latency_p99_us'], ['p99.9', 'latency_p999_us']));
    plots.bytes.show(at_ms, of(['sent', 'bytes_out_s'], ['received', 'bytes_in_s']));
    plots.cpu.show(at_ms, of(['cores', 'cpu']));

    // Whole minutes, so that a bar does not change with time.
    const minutes = [...new Set(at_ms.map((time) => Math.floor(time / 60e3)))];
    const place = new Map(minutes.map((minute, index) => [minute, index]));
    const ends = [...named('ends'), ...named('refusals').map((it) => ({ ...it, name: `${it.name}, refused` }))];
    const bars = ends.map(({ name, values }) => {
      const counts = minutes.map(() => 0);
      values.forEach((count, at) => { counts[place.get(Math.floor(at_ms[at] / 60e3))] += count; });
      return { name, values: counts, all: sum(counts) };
    }).filter(({ all }) => all > 0).sort((a, b) => b.all - a.all);
    // As many as there are colours; the rest together.
    const rest = bars.splice(6);
    if (rest.length) {
      bars.push({ name: 'others', values: minutes.map((_, at) => rest.reduce((all, { values }) => all + values[at], 0)) });
    }
    plots.ends.show(minutes.map((minute) => minute * 60e3 + 30e3), bars);
    show_reasons(ends);
  }

  function show_reasons(ends) {
    const rows = ends.map(({ name, values }) => ({ name, count: sum(values) })).filter(({ count }) => count > 0)
      .sort((a, b) => b.count - a.count);
    const most = rows.length ? rows[0].count : 1;
    $('reasons').replaceChildren(...rows.map(({ name, count }) => {
      const bar = el('span', { className: 'bar' });
      bar.style.width = `${(100 * count) / most}%`;
      const text = el('span', { className: 'number' }, grouped(count));
      return el('li', { className: name.endsWith(', refused') ? 'refused' : '' }, el('span', {}, name), bar, text);
    }), ...(rows.length ? [] : [el('li', { className: 'empty' }, 'Nothing has ended')]));
  }

  function tile(name, value, unit = '') {
    return el('div', {}, el('dt', {}, name), el('dd', {}, value, el('small', {}, unit)));
  }

  function show_status(status) {
    const seconds = last ? (status.uptime_s - last.uptime_s) || 1 : 0;
    const is_same = last && last.pid === status.pid;
    const per_second = (total) => (is_same ? Math.max(0, (total(status) - total(last)) / seconds) : null);
    const rates = {
      events: per_second((it) => sum(it.totals.events)),
      deliveries: per_second((it) => sum(it.totals.deliveries)),
      sent: per_second((it) => it.totals.bytes_out),
    };
    const newest = (name) => past.series[name] && past.series[name].at(-1);
    const text = (value, write) => (value == null ? '–' : write(value));
    const [sent, unit] = text(rates.sent, size).split(' ');
    const [p99, p99_unit] = latency(newest('latency_p99_us')).split(' ');
    const [memory, memory_unit] = text(newest('memory_bytes'), size).split(' ');
    $('tiles').replaceChildren(
      tile('Events', text(rates.events, rate), '/s'),
      tile('Deliveries', text(rates.deliveries, rate), '/s'),
      tile('Sent', sent, unit ? `${unit}/s` : ''),
      tile('Connections', grouped(status.connections)),
      tile('Latency p99', p99, p99_unit || ''),
      tile('Memory', memory, memory_unit || ''),
    );
    // A second apart at least, so that a rate is not that of a moment.
    if (!last || !is_same || status.uptime_s > last.uptime_s) last = status;

    const gap = status.gaps[0];
    const [condition, how] = status.hung.length ? [`${status.hung[0].thread} hangs`, 'bad']
      : status.draining ? ['stopping', 'warn']
        : gap ? [`not for ${gap.dialects.join(', ')}`, 'warn']
          : status.ready ? ['ready', 'good'] : ['starting', 'warn'];
    $('condition').textContent = condition;
    $('condition').className = `condition ${how}`;
    $('condition').title = gap ? gap.reason : '';
    $('about').textContent = `${location.host}  ·  ${status.version}  ·  up ${age(status.uptime_s)}`;
    document.title = `${condition} · fanfare`;
  }

  // ---- Tables ----

  // A cell: what it says, and its name, which a narrow screen shows before it.
  const cell = (name, text, className = '') => el('td', { className, data: name ? { name } : {}, title: typeof text === 'string' ? text : '' }, text);

  function fill(table, names, rows, none) {
    const head = el('thead', {}, el('tr', {}, ...names.map((name) => {
      const is_number = name.startsWith('#');
      return el('th', { className: is_number ? 'number' : '' }, is_number ? name.slice(1) : name);
    })));
    const body = el('tbody', {}, ...rows);
    if (!rows.length) body.append(el('tr', {}, el('td', { className: 'empty', colSpan: names.length }, none)));
    table.replaceChildren(head, body);
  }

  // The names of all dialects, each with the first word of its addresses.
  const KINDS = /*kinds*/ [];

  // A word of a search says by its form what it is, unless a name and an equals sign stand before it.
  function words(text, known) {
    const parameters = {};
    for (const word of text.split(/\s+/).filter(Boolean)) {
      const at = word.indexOf('=');
      const name = known.includes(word.slice(0, at)) ? word.slice(0, at)
        : KINDS.some(([dialect]) => dialect === word) ? 'dialect'
          : /^(\d+\.){3}\d+$|^[0-9a-f:]*:[0-9a-f:.]*$/i.test(word) ? 'address'
            : known.includes('topic') && word.includes('/') && KINDS.some(([, first]) => first === word.split('/')[0]) ? 'topic'
              : known.includes('reason') && /^[a-z_]+$/.test(word) && word in reasons() ? 'reason' : 'subject';
      parameters[name] = known.includes(word.slice(0, at)) ? word.slice(at + 1) : word;
    }
    return parameters;
  }

  const reasons = () => Object.fromEntries(last ? Object.keys({ ...last.totals.ends, ...last.totals.refusals }).map((it) => [it, 1]) : []);

  // ---- Sessions ----

  const sessions = { rows: [], next: null, asked: 0, open: null };

  async function list_sessions(is_more) {
    const order = $('session-order').value;
    const asked = (sessions.asked += 1);
    // What is shown already is asked for again, as far as one list goes.
    const count = is_more ? ROWS : Math.min(ROWS_MAX, Math.max(ROWS, order ? 0 : sessions.rows.length));
    const parameters = { ...words($('session-words').value, ['dialect', 'address', 'topic', 'subject']), sort: order, count };
    if (is_more) parameters.after = sessions.next;
    const answer = await ask('/v1/sessions', { parameters });
    if (asked !== sessions.asked) return;
    sessions.rows = is_more ? sessions.rows.concat(answer.sessions) : answer.sessions;
    sessions.next = answer.next || null;
    await show_sessions();
  }

  async function show_sessions() {
    const names = ['id', 'dialect', 'address', '#age', '#waits', '#sent', '#topics', 'subject', ''];
    const rows = [];
    for (const session of sessions.rows) {
      const kick = el('button', { type: 'button', onclick: (event) => { event.stopPropagation(); ask_to_kick(session); } }, 'Kick');
      const row = el('tr', { className: 'opens', tabIndex: 0, data: { id: session.id } },
        cell('', session.id, 'mono'), cell('', session.dialect || session.phase), cell('', session.address || '', 'wide'),
        cell('age', since(session.since_ms), 'number'), cell('waits', size(session.backlog_bytes), 'number'),
        cell('sent', size(session.bytes_out), 'number'), cell('topics', grouped(session.subscriptions), 'number'),
        cell('', session.subject || '', 'wide'), el('td', { className: 'act' }, kick));
      row.addEventListener('click', () => open_session(session.id));
      row.addEventListener('keydown', (event) => { if (event.key === 'Enter' && event.target === row) open_session(session.id); });
      rows.push(row);
      if (sessions.open && sessions.open.id === session.id) rows.push(detail(sessions.open, names.length));
    }
    const [row, button] = focused();
    fill($('session-rows'), names, rows, 'No session');
    // The keyboard stays where it was.
    const again = [...$('session-rows').querySelectorAll('tr.opens')].find((it) => it.dataset.id === row);
    if (row && again) (button ? again.querySelector('button') : again).focus();
    $('session-more').hidden = !sessions.next || sessions.rows.length >= ROWS_MAX;
  }

  // The session whose row has the focus, and whether its button does.
  function focused() {
    const element = document.activeElement;
    const row = element && element.closest('tr.opens');
    return [row && row.dataset.id, element instanceof HTMLButtonElement];
  }

  function detail(session, columns) {
    const where = session.listener ? `Connected to ${session.listener}${session.tls ? ' over TLS' : ''}. ` : '';
    const topics = el('ul', {}, ...session.topics.map((topic) => el('li', { className: 'mono' }, topic)));
    const text = session.topics.length ? 'Subscribed to:' : 'No subscriptions.';
    return el('tr', {}, el('td', { className: 'detail', colSpan: columns }, where + text, topics));
  }

  async function open_session(id) {
    if (sessions.open && sessions.open.id === id) sessions.open = null;
    else sessions.open = await attempt(() => ask(`/v1/sessions/${encodeURIComponent(id)}`)) || null;
    await show_sessions();
  }

  function ask_to_kick({ id, dialect, address, subject }) {
    $('question').textContent = `End the session ${id}${dialect ? ` of ${dialect}` : ''}${address ? ` from ${address}` : ''}`
      + `${subject ? `, ${subject}` : ''}? Its client may connect again.`;
    $('yes').onclick = async () => {
      $('ask').close();
      await attempt(() => ask(`/v1/sessions/${encodeURIComponent(id)}`, { method: 'DELETE' }));
      await attempt(() => list_sessions(false));
    };
    $('ask').showModal();
  }

  // ---- Topics ----

  async function list_topics() {
    const prefix = $('topic-prefix').value.trim();
    $('topic-title').textContent = prefix ? 'Found' : 'Largest backlogs';
    if (!prefix) {
      const { backlogs } = await ask('/v1/backlogs');
      const rows = backlogs.map(({ topic, subscription, messages }) => el('tr', {},
        cell('', topic, 'mono wide'), cell('', subscription, 'mono'), cell('messages', grouped(messages), 'number')));
      return fill($('topic-rows'), ['topic', 'subscription', '#messages'], rows, 'No backlog');
    }
    const found = await ask('/topics', { parameters: { prefix, count: ROWS } });
    const names = Array.isArray(found) ? found : found.topics;
    const rows = names.map((name) => el('tr', {}, cell('', name, 'mono wide')));
    return fill($('topic-rows'), ['topic'], rows, 'No topic begins so');
  }

  // ---- Ends ----

  async function list_ends() {
    const parameters = { ...words($('end-words').value, ['dialect', 'address', 'subject', 'reason']), count: ROWS };
    const { ended } = await ask('/v1/ended', { parameters });
    const rows = ended.map((end) => el('tr', {},
      cell('ago', since(end.at_ms), 'number'), cell('', end.refused ? `${end.reason}, refused` : end.reason),
      cell('', end.dialect || ''), cell('', end.address || '', 'wide'), cell('told', end.code ? String(end.code) : '', 'number'),
      cell('lasted', end.refused ? '' : age(end.age_s), 'number'), cell('', end.subject || '', 'wide'), cell('', end.detail || '', 'wide')));
    fill($('end-rows'), ['#ago', 'reason', 'dialect', 'address', '#told', '#lasted', 'subject', 'why'], rows, 'Nothing has ended');
  }

  // ---- Publish ----

  async function publish() {
    const told = $('published');
    told.className = 'quiet';
    told.textContent = '…';
    try {
      const body = $('event').value;
      const outcome = await ask('/v1/publish', { method: 'POST', parameters: { address: $('address').value.trim() }, body });
      told.className = outcome.reached === 0 ? 'warn' : 'good';
      told.textContent = outcome.reached == null ? 'Stored'
        : outcome.reached === 0 ? 'Accepted, but no session got it' : `Reached ${grouped(outcome.reached)}`;
    } catch (error) {
      told.className = 'bad';
      told.textContent = error.message;
    }
  }

  // ---- The page ----

  // What could not be done, by what it is about.
  const troubles = new Map();

  // Does something, and shows why it could not be done until it can be.
  async function attempt(action, about = 'list') {
    try {
      const done = await action();
      troubles.delete(about);
      return done;
    } catch (error) {
      troubles.set(about, error.message);
      return undefined;
    } finally {
      show_trouble();
    }
  }

  function show_trouble() {
    const [first] = troubles.values();
    $('trouble').textContent = first || '';
    $('trouble').hidden = !first;
  }

  const views = { overview: null, sessions: () => list_sessions(false), topics: list_topics, ends: list_ends, publish: null };
  const view = () => (location.hash.slice(1) in views ? location.hash.slice(1) : 'overview');

  function turn() {
    for (const name of Object.keys(views)) $(`view-${name}`).hidden = name !== view();
    for (const link of document.querySelectorAll('nav a')) {
      if (link.hash === `#${view()}`) link.setAttribute('aria-current', 'page'); else link.removeAttribute('aria-current');
    }
    troubles.delete('list');
    show_trouble();
    if (!$('console').hidden) {
      if (views[view()]) attempt(views[view()]);
      show_plots();
    }
  }

  // Asks again and again while somebody can see it.
  function repeat(action, every_ms, about) {
    let is_busy = false;
    setInterval(async () => {
      if (is_busy || document.hidden || $('console').hidden) return;
      is_busy = true;
      await attempt(action, about);
      is_busy = false;
    }, every_ms);
  }

  const refresh_status = async () => show_status(await ask('/v1/status'));
  async function refresh_history() {
    remember(await ask('/v1/history', { parameters: { after: past.at_ms.at(-1) } }));
    show_plots();
  }
  // A list must not move while a pointer is on its way to a row.
  async function refresh_list() {
    const is_aimed_at = matchMedia('(hover: hover)').matches && document.querySelector('.table:hover');
    if (views[view()] && !$('ask').open && !is_aimed_at) await views[view()]();
  }

  async function enter() {
    $('login').hidden = true;
    $('console').hidden = false;
    turn();
    await attempt(refresh_history, 'history');
    await attempt(refresh_status, 'status');
  }

  function leave(reason = '') {
    sessionStorage.removeItem('fanfare-token');
    token = null;
    past = { at_ms: [], series: {} };
    last = null;
    troubles.clear();
    show_trouble();
    if ($('ask').open) $('ask').close();
    $('console').hidden = true;
    $('login').hidden = false;
    $('refused').textContent = reason;
    $('token').value = '';
    $('token').focus();
    document.title = 'fanfare';
  }

  // A form does its action, and nothing is sent by the browser itself.
  function on_submit(id, action) {
    $(id).addEventListener('submit', (event) => { event.preventDefault(); action(); });
  }

  on_submit('login', async () => {
    token = $('token').value.trim();
    try {
      await ask('/v1/status');
      sessionStorage.setItem('fanfare-token', token);
      await enter();
    } catch (error) {
      leave(error.message);
    }
  });
  on_submit('find-sessions', () => { sessions.rows = []; attempt(() => list_sessions(false)); });
  on_submit('find-topics', () => attempt(list_topics));
  on_submit('find-ends', () => attempt(list_ends));
  on_submit('send', publish);
  $('session-order').addEventListener('change', () => { sessions.rows = []; attempt(() => list_sessions(false)); });
  $('session-more').addEventListener('click', () => attempt(() => list_sessions(true)));
  $('leave').addEventListener('click', () => leave());
  $('no').addEventListener('click', () => $('ask').close());
  window.addEventListener('hashchange', turn);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', show_plots);
  document.addEventListener('visibilitychange', () => { if (!document.hidden && token) attempt(refresh_history, 'history'); });
  repeat(refresh_status, STATUS_MS, 'status');
  repeat(refresh_history, HISTORY_MS, 'history');
  repeat(refresh_list, HISTORY_MS, 'list');
  turn();
  if (token) enter(); else leave();
})();
