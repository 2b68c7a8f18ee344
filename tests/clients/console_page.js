// The console in Chromium, as an operator works with it.
// Arguments: the admin listener's port, the token, the id of a session of Echo, and the directory for screenshots.
'use strict';

const assert = require('node:assert');
const path = require('node:path');
const { chromium } = require('playwright-core');

const [admin, token, session, directory] = process.argv.slice(2);
const CONSOLE = `http://127.0.0.1:${admin}/console`;
const SUBJECT = '<img src=x onerror="window.wasRun=1">';

// What the page must never do.
function watch(tab, faults) {
  tab.on('console', (message) => { if (message.type() === 'error') faults.push(message.text()); });
  tab.on('pageerror', (error) => faults.push(String(error)));
  tab.on('request', (request) => {
    const { host, protocol } = new URL(request.url());
    if (host !== `127.0.0.1:${admin}` && protocol !== 'data:') faults.push(`asked ${request.url()}`);
  });
  return tab.addInitScript(() => {
    window.violations = [];
    document.addEventListener('securitypolicyviolation', (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
  });
}

async function sign_in(tab) {
  await tab.goto(CONSOLE);
  await tab.fill('#token', token);
  await tab.click('#login button');
  await tab.waitForSelector('#tiles dd');
}

const turn_to = (tab, view) => tab.click(`nav a[href="#${view}"]`);
const rows = (tab) => tab.locator('#session-rows tbody tr.opens');

// Whether a plot has anything but its lines: colours that the grid and its texts do not have.
const has_plot = (tab, id) => tab.waitForFunction((name) => {
  const canvas = document.getElementById(name);
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < data.length; at += 4) {
    const [red, green, blue, alpha] = data.slice(at, at + 4);
    if (alpha > 200 && Math.max(red, green, blue) - Math.min(red, green, blue) > 40) return true;
  }
  return false;
}, id, { timeout: 30000 });

async function work(tab) {
  await tab.goto(CONSOLE);
  await tab.fill('#token', 'a wrong token of sixteen');
  await tab.click('#login button');
  await tab.waitForFunction(() => document.getElementById('refused').textContent.includes('token'));
  await sign_in(tab);
  assert.strictEqual(await tab.textContent('#condition'), 'ready');
  for (const plot of ['plot-rates', 'plot-sessions', 'plot-cpu']) await has_plot(tab, plot);

  await turn_to(tab, 'sessions');
  await tab.waitForFunction(() => document.querySelectorAll('#session-rows tr.opens').length === 2);
  const texts = await rows(tab).allTextContents();
  assert(texts.some((text) => text.includes(SUBJECT)), String(texts));
  assert.strictEqual(await tab.evaluate(() => document.images.length + Number(window.wasRun || 0)), 0);
  await tab.fill('#session-words', 'personium-event');
  await tab.click('#find-sessions button');
  await tab.waitForFunction(() => document.querySelectorAll('#session-rows tr.opens').length === 1);
  await rows(tab).first().click();
  await tab.waitForSelector('td.detail:has-text("event/demo/")');
  await tab.fill('#session-words', 'nothing-like-that');
  await tab.press('#session-words', 'Enter');
  await tab.waitForSelector('#session-rows td.empty');

  await turn_to(tab, 'publish');
  await tab.fill('#address', 'event/demo');
  await tab.fill('#event', '{"Type":"chat","Object":"o","Info":"from the console"}');
  await tab.click('#send button');
  await tab.waitForFunction(() => document.getElementById('published').textContent === 'Reached 1');
  await tab.fill('#event', '{');
  await tab.click('#send button');
  await tab.waitForFunction(() => document.getElementById('published').textContent.includes('not valid JSON'));

  await turn_to(tab, 'sessions');
  await tab.fill('#session-words', 'echo');
  await tab.click('#find-sessions button');
  const kick = rows(tab).filter({ hasText: session }).getByRole('button');
  await kick.click();
  await tab.click('#no');
  await kick.click();
  assert((await tab.textContent('#question')).includes(session));
  await tab.click('#yes');
  await tab.waitForSelector('#session-rows td.empty');

  await turn_to(tab, 'ends');
  await tab.waitForFunction(() => document.getElementById('end-rows').textContent.includes('kicked'));
  await turn_to(tab, 'topics');
  await tab.waitForSelector('#topic-rows td.empty');

  // What the tab knows is forgotten when the operator says so.
  await tab.click('#leave');
  await tab.reload();
  assert(await tab.isVisible('#login') && !await tab.isVisible('#console'));
}

// Pictures for people: every view, on a phone and on a desk, by day and by night.
async function picture(browser, faults) {
  for (const colorScheme of ['light', 'dark']) {
    for (const [width, height] of [[1280, 900], [390, 844]]) {
      const context = await browser.newContext({ colorScheme, viewport: { width, height } });
      const tab = await context.newPage();
      await watch(tab, faults);
      await sign_in(tab);
      await has_plot(tab, 'plot-rates');
      for (const view of ['overview', 'sessions', 'topics', 'ends', 'publish']) {
        await turn_to(tab, view);
        await tab.waitForLoadState('networkidle');
        const file = path.join(directory, `${view}-${width}-${colorScheme}.png`);
        await tab.screenshot({ path: file, fullPage: true });
        const wide = await tab.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
        assert(wide <= 0, `${view} is ${wide} pixels too wide at ${width}`);
      }
      assert.deepStrictEqual(await tab.evaluate(() => window.violations), []);
      await context.close();
    }
  }
}

async function main() {
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-background-networking', '--disable-sync'],
  });
  const faults = [];
  try {
    const tab = await browser.newPage();
    await watch(tab, faults);
    await work(tab);
    assert.deepStrictEqual(await tab.evaluate(() => window.violations), []);
    // The wrong token, and the event that is no JSON, are refusals that a browser tells as errors.
    assert(faults.every((fault) => /status of 40[01]/.test(fault)), String(faults));
    const others = [];
    await picture(browser, others);
    assert.deepStrictEqual(others, []);
    console.log('chromium', browser.version(), 'ok');
  } finally {
    await browser.close();
  }
}

main();
