// Asks csbp_notebooks/explorer/explorer.js what test_explorer.py wants to know.
//
// Standard input: {"script": its path, "name": of an export, "calls": lists of arguments, or null
// for a constant}. Standard output: the values, as JSON.
import { readFileSync } from "node:fs";

const { script, name, calls } = JSON.parse(readFileSync(0, "utf8"));
// As text, since node before 22 takes a .js file beside no package.json for a script.
const text = readFileSync(script).toString("base64");
const explorer = await import(`data:text/javascript;base64,${text}`);

const asList = (_, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value);
const values = calls === null
  ? explorer[name]
  : calls.map((given) => explorer[name](...given));
process.stdout.write(JSON.stringify(values, asList));
