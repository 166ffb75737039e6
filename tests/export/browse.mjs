// Opens a page in headless Chromium and prints, as JSON, the images that it shows for each hash of the command line.
// node browse.mjs PLAYWRIGHT CHROMIUM PROFILE ADDRESS SHOTS HASH...
import { createRequire } from "node:module";

const [playwright, executablePath, profile, address, shots, ...hashes] = process.argv.slice(2);
const { chromium } = createRequire(import.meta.url)(playwright);
const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];
const context = await chromium.launchPersistentContext(profile, { executablePath, args, headless: true, viewport: { width: 1200, height: 3000 } });
const page = context.pages()[0];
const found = { console: [], requests: [], images: {}, animations: {}, texts: {} };
page.on("console", (message) => found.console.push(`${message.type()}: ${message.text()}`));
page.on("pageerror", (error) => found.console.push(`pageerror: ${error.message}`));
page.on("request", (request) => found.requests.push(request.url().slice(0, 200)));
const base64 = (bytes) => Buffer.from(bytes).toString("base64");

const pixels = (selector) => page.evaluate(async (selector) => {
  const shown = [];
  for (const image of document.querySelectorAll(selector)) {
    await image.decode();
    const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    shown.push([...context.getImageData(0, 0, canvas.width, canvas.height).data]);
  }
  return shown;
}, selector);
const arrived = (selector) => page.waitForFunction(
  (selector) => [...document.querySelectorAll(selector)].every((each) => each.src && each.complete), selector);

try {
  for (const hash of hashes) {
    await page.goto("about:blank");
    await page.goto(`${address}#${hash}`);
    if (hash.startsWith("file=")) {
      await page.waitForSelector("#upload", { state: "visible" });
      await page.setInputFiles("#file", hash.slice(5));
      await page.waitForSelector("#large", { state: "visible" });
      await arrived("#large");
      found.images[hash] = (await pixels("#large")).map(base64);
      found.texts[hash] = await page.innerText("body");
      await page.keyboard.press("Escape");
      continue;
    }
    await page.waitForSelector("#grid img");
    await arrived("#grid img");
    if (hash.includes("walk=")) {
      await page.click("#play");
      await page.waitForFunction(() => document.getElementById("large").src && document.getElementById("large").complete);
      const bytes = await page.evaluate(async () => [...new Uint8Array(await (await fetch(document.getElementById("large").src)).arrayBuffer())]);
      found.animations[hash] = base64(bytes);
    } else {
      const selector = hash.includes("seed=") ? "#large" : "#grid img";
      await arrived(selector);
      found.images[hash] = (await pixels(selector)).map(base64);
    }
    found.isolated = await page.evaluate(() => crossOriginIsolated);
    found.texts[hash] = await page.innerText("body");
    await page.keyboard.press("Escape");
  }
  for (const [name, size, colorScheme] of [["desktop", [1200, 900], "light"], ["phone", [360, 740], "dark"]]) {
    await page.setViewportSize({ width: size[0], height: size[1] });
    await page.emulateMedia({ colorScheme });
    await page.waitForTimeout(100);
    if (shots) await page.screenshot({ path: `${shots}/${name}.png` });
    found[name] = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  }
} finally {
  console.log(JSON.stringify(found));
  await context.close();
}
