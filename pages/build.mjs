// Puts the page into OUTDIR as it is embedded in the binary: `node build.mjs OUTDIR`.
//
// The sources are complete without this step: `assets/packages.js` and `assets/packages.css` say that no package is
// there, and the page shows tables where charts would be. When `npm ci` has run, both are replaced here by the pinned
// packages, so the browser never asks for a file that does not exist.
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const [target, ...rest] = process.argv.slice(2);
if (!target || rest.length > 0) {
  console.error('usage: node build.mjs OUTDIR');
  process.exit(2);
}
const out = resolve(target);
if (out === here || here.startsWith(join(out, '/'))) {
  console.error(`build.mjs: ${out} holds the sources; choose another folder`);
  process.exit(2);
}

mkdirSync(out, { recursive: true });
// A file that was removed from the sources must not stay behind in the binary.
rmSync(join(out, 'assets'), { recursive: true, force: true });
cpSync(join(here, 'index.html'), join(out, 'index.html'));
cpSync(join(here, 'assets'), join(out, 'assets'), { recursive: true });

const uplot = join(here, 'node_modules', 'uplot');
if (existsSync(uplot)) {
  const folder = join(out, 'assets', 'packages');
  mkdirSync(folder, { recursive: true });
  cpSync(join(uplot, 'dist', 'uPlot.esm.js'), join(folder, 'uplot.js'));
  cpSync(join(uplot, 'LICENSE'), join(folder, 'uplot.LICENSE.txt'));
  writeFileSync(join(out, 'assets', 'packages.js'), "export { default as uPlot } from './packages/uplot.js';\n");
  writeFileSync(join(out, 'assets', 'packages.css'), readFileSync(join(uplot, 'dist', 'uPlot.min.css')));
} else {
  console.log('build.mjs: node_modules/uplot is missing (npm ci did not run): the page shows tables instead of charts');
}
