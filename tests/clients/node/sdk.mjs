// Calls the official SDK: one request per line of standard input, {"method": "emails.send", "args": [...]},
// one answer per line of standard output: {"data": ..., "error": ...} as the SDK gives them, or {"thrown": words}.
import { createInterface } from "node:readline";
import { Resend } from "resend";

const sdk = new Resend(process.env.RESEND_API_KEY);

for await (const line of createInterface({ input: process.stdin })) {
  const { method, args, key } = JSON.parse(line);
  const path = method.split(".");
  const name = path.pop();
  const object = path.reduce((part, word) => part[word], key ? new Resend(key) : sdk);
  let answer;
  try {
    answer = await object[name](...args);
  } catch (error) {
    answer = { thrown: String(error) };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
