// A program with the types that openapi-typescript makes: posts a file, prints the first label.
// Arguments: the service's address and an image file.
import { readFile } from "node:fs/promises";
import type { components, paths } from "./labelserve";

type Operation = paths["/predict"]["post"];
type Query = NonNullable<Operation["parameters"]["query"]>;
type Predictions = Operation["responses"][200]["content"]["application/json"];
type Problem = components["schemas"]["Problem"];

async function predict(address: string, file: string, query: Query): Promise<Predictions> {
  const words = Object.entries(query).map(([name, value]) => `${name}=${value}`);
  const response = await fetch(`${address}/predict?${words.join("&")}`, {
    method: "POST",
    headers: { "Content-Type": "image/png" },
    body: new Uint8Array(await readFile(file)),
  });
  if (!response.ok) {
    const problem = (await response.json()) as Problem;
    throw new Error(`${problem.status}: ${problem.detail}`);
  }
  return (await response.json()) as Predictions;
}

const [address, file] = process.argv.slice(2);
predict(address, file, { top_k: 1 }).then(({ model, predictions }) => {
  const [{ label, probability }] = predictions;
  console.log(JSON.stringify({ model: model.name, label, sure: probability > 0.5 }));
});
