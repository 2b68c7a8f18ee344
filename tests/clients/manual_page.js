// The pages of the manual in Chromium: each connects, and shows what is published.
// The argument is a list in JSON: the URL of a page, the command that publishes, what the page shows then, and a command
// that ends its session, if it is to come back.
'use strict';

const assert = require('node:assert');
const { execFileSync } = require('node:child_process');
const { chromium } = require('playwright-core');

async function visit(browser, [url, publish, shown, end]) {
  const tab = await browser.newPage();
  const faults = [];
  tab.on('pageerror', (error) => faults.push(String(error)));
  tab.on('console', (message) => faults.push(message.text()));
  await tab.goto(url);
  const until = (selector, text) => tab.locator(selector, { hasText: text }).waitFor({ timeout: 20000 })
    .catch(async () => assert.fail(`${url}: no ${text} in ${await tab.content()}: ${faults}`));
  await until('#state', /^connected$/);
  execFileSync('sh', ['-c', publish]);
  await until('#events li', shown);
  if (end) {
    execFileSync('sh', ['-c', end]);
    await until('#state', /^closed: /);
    await until('#state', /^connected$/);
  }
  assert.deepStrictEqual(faults, []);
  await tab.close();
}

async function main() {
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-background-networking', '--disable-sync'],
  });
  try {
    for (const page of JSON.parse(process.argv[2])) await visit(browser, page);
    console.log('ok');
  } finally {
    await browser.close();
  }
}

main();
